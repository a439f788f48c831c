"""Used from Python, not from the command line: what is wrong is told, and nothing is mixed up."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small_models import tiny
from torch import nn

from nextlat_bench.adapters import CallableModel, check_subject
from nextlat_bench.device import chosen_device
from nextlat_bench.generate import choose, generate
from nextlat_bench.known import known_subject
from nextlat_bench.measure import known_identity, measure, model_identity
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.probes.next_token import NextToken
from nextlat_bench.probes.rank import Rank, effective_rank, participation_ratio
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.subject import RereadingSession, Session, Subject
from nextlat_bench.tasks._core import Batch, Vocabulary
from nextlat_bench.tasks._draws import BLOCK, DrawnTask
from nextlat_bench.tasks._streets import StreetMap
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.language import Language
from nextlat_bench.tasks.taxi import Taxi
from nextlat_bench.train import train

TASK = Taxi(radius=300, max_nodes=16, max_path=8, max_new=16)
V = len(TASK.vocab)
TABLE = np.random.default_rng(0).normal(size=(V, V))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- folders


def test_a_folder_is_trained_in_by_its_own_run_alone(tmp_path: Path) -> None:
    mine, other = tiny("training.steps=2"), tiny("training.steps=3", seed=1)
    folder = RunDir.prepare(tmp_path, mine)
    train(mine, folder, device="cpu", threads=1)
    before = folder.model.read_bytes()
    with pytest.raises(RunDirError, match="describes another run"):
        train(other, folder, device="cpu", threads=1)
    assert folder.model.read_bytes() == before
    with pytest.raises(RunDirError, match=r"run\.json does not exist"):
        train(mine, RunDir(tmp_path / "bare"), device="cpu", threads=1)
    with pytest.raises(ValueError, match="threads = -3: expected a whole number from 1"):
        train(mine, folder, device="cpu", threads=-3)


def test_a_run_that_could_not_be_read_back_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    run = replace(tiny(), task=Taxi(streets=StreetMap.load("heliopolis").crop(300), max_nodes=8))
    with pytest.raises(ValueError, match="a map cropped by hand cannot be loaded"):
        RunDir.prepare(tmp_path, run)
    assert not list(tmp_path.glob("*/run.json"))


def test_records_of_two_models_never_meet(tmp_path: Path) -> None:
    one = CallableModel(lambda tokens: TABLE[tokens], TASK, name="one")
    probes = [Trajectories(num_trials=20)]
    measure(one, TASK, probes, model_identity("callable", one.facts, TASK, "laptop"), str(tmp_path))
    oracle = known_identity("oracle", TASK, "laptop")
    with pytest.raises(ValueError, match=r"has records of taxi-one.*give taxi-oracle.* its own"):
        measure(known_subject("oracle", TASK), TASK, probes, oracle, tmp_path)
    unnamed = CallableModel(lambda tokens: TABLE[tokens], TASK)
    with pytest.raises(ValueError, match="'callable': give it a name"):
        model_identity("callable", unnamed.facts, TASK, "laptop")


def test_equal_numbers_make_equal_runs() -> None:
    whole = tiny("training.weight_decay=0")
    one, other = (replace(whole, objective=NextLat(kl_weight=weight)) for weight in (1, 1.0))
    assert one == other
    assert one.id == other.id
    assert A5(heldout=np.float64(0.25)).parameters() == A5(heldout=0.25).parameters()


# ---- models


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.from_numpy(TABLE).float()), nn.Dropout(0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.weight)[tokens]
        return out


def test_a_module_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    module = Dropped()
    model = CallableModel(module, TASK)
    assert module.training
    assert module.drop.training
    module.train()  # the next epoch
    tokens = TASK.sample("test", 0, 3).tokens
    assert np.array_equal(model.log_probs(tokens), model.log_probs(tokens))
    assert module.drop.training


class Given(Subject):
    """What a function gives, as it is."""

    name, vocab_size = "given", V

    def __init__(self, function: Any) -> None:
        self.log_probs = function  # type: ignore[method-assign]

    def start(self, prompts: Any) -> Session:
        return RereadingSession(self, prompts)


def from_the_right(tokens: np.ndarray) -> np.ndarray:
    place = np.arange(tokens.shape[1])[::-1, None]
    logits = TABLE[tokens] * (1 + place)
    out: np.ndarray = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return out


def test_what_cannot_be_probed_is_told() -> None:
    with pytest.raises(ValueError, match="given gives no log-probabilities: they do not sum to 1"):
        check_subject(Given(lambda tokens: TABLE[tokens]), TASK)
    with pytest.raises(ValueError, match="says something else of a prefix alone"):
        check_subject(Given(from_the_right), TASK)
    larger = Taxi(radius=500, max_nodes=16, max_path=8, max_new=16)
    oracle = known_subject("oracle", TASK)
    for ask in (check_subject, lambda *given: NextToken().measure(*given, rng())):
        with pytest.raises(ValueError, match=rf"oracle has a vocabulary of {V}: taxi has"):
            ask(oracle, larger)


class States(CallableModel):
    def hidden(self, tokens: np.ndarray, reading: str = "hidden") -> np.ndarray:
        assert reading == "hidden"
        out: np.ndarray = TABLE[tokens][..., :8]
        return out


class AllStates(States):
    readings = ("hidden",)

    def read_out(self, hidden: np.ndarray) -> np.ndarray:
        return np.full((len(hidden), V), -np.log(V))

    def predict_hidden(self, hidden: np.ndarray, tokens: np.ndarray) -> None:
        return None


class LastState(AllStates):
    def hidden(self, tokens: np.ndarray, reading: str = "hidden") -> np.ndarray:
        return super().hidden(tokens, reading)[:, -1]


def test_half_a_subject_with_states_is_told_what_it_lacks() -> None:
    def measured(kind: type[CallableModel]) -> list[str]:
        model = kind(lambda tokens: TABLE[tokens], TASK, name="mine")
        return [row.metric for row in Rank(num_positions=200).measure(model, TASK, rng())]

    with pytest.raises(ValueError, match="mine has hidden, but not read_out and predict_hidden"):
        measured(States)
    with pytest.raises(ValueError, match=r"mine\.hidden gave \(64, 8\): expected \(64, \d+\)"):
        measured(LastState)
    assert "effective_rank" in measured(AllStates)
    assert "effective_rank_embedding" not in measured(AllStates)  # it says that it has none


def test_ranks_have_no_scale() -> None:
    for scale in (1e-13, 1e13):
        assert effective_rank(scale * np.eye(8)) == pytest.approx(8)
        assert participation_ratio(scale * np.eye(8), False) == pytest.approx(8)
    alike = np.tile(1e6 * rng().normal(size=8), (5_000, 1))
    assert effective_rank(alike, centred=True) == 0
    assert effective_rank(alike) == pytest.approx(1)


def test_a_device_is_known_by_its_object_too() -> None:
    assert chosen_device(torch.device("cpu")) == "cpu"


# ---- arguments


def test_temperatures_and_batches_that_are_none() -> None:
    oracle, prompts = known_subject("oracle", TASK), TASK.prompts("test", 0, 4)
    ends = {"end": TASK.vocab.end or 0, "pad": TASK.vocab.pad}
    for wrong in (0, -1, float("nan"), "1"):
        with pytest.raises(ValueError, match=r"temperature = .*: expected a number above 0"):
            choose(np.log([[0.1, 0.7, 0.2]]), rng(), temperature=wrong)  # type: ignore[arg-type]
    for batch in (0, -1, 2.0):
        with pytest.raises(ValueError, match=r"batch = .*: expected a whole number from 1"):
            generate(oracle, prompts, 4, **ends, batch=batch)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_new = -1: expected a whole number from 0"):
        generate(oracle, prompts, -1, **ends)


@pytest.mark.parametrize("kind", [np.uint32, np.uint16, np.int16])
def test_small_integers_of_numpy_do_not_overflow(kind: Any) -> None:
    task = A5(group="S3", length=8)
    same = task.sample("train", 1_000, 100).tokens
    assert np.array_equal(task.sample("train", kind(1_000), kind(100)).tokens, same)


def test_fractions_are_no_tokens() -> None:
    task = Countdown(num_inputs=3, max_input=30, max_target=60, largest=999)
    tokens = task.sample("test", 0, 5).tokens
    size = task.prompts("test", 0, 1).shape[1]
    for wrong in (tokens[:, size:] + 0.4, tokens[:, size:].astype(str)):
        with pytest.raises(ValueError, match=r"completions of type .*: expected integers"):
            task.check(tokens[:, :size], wrong)
    model = CallableModel(lambda tokens: TABLE[tokens], TASK)
    with pytest.raises(ValueError, match="tokens of type float64: expected integers"):
        model.log_probs(np.array([[1.5, 2.0]]))


def test_text_takes_one_sequence() -> None:
    for task in (TASK, Countdown(), A5()):
        with pytest.raises(ValueError, match="expected one sequence"):
            task.text(task.sample("test", 0, 2).tokens)


def test_numbers_ranges_arrays_and_paths_are_what_they_are(tmp_path: Path) -> None:
    from nextlat_bench.probes.detours import Detours
    from nextlat_bench.probes.lookahead import Lookahead

    assert Detours(probabilities=np.array([0, 0.5])).probabilities == (0, 0.5)  # type: ignore[arg-type]
    assert Lookahead(distances=range(1, 4)).distances == (1, 2, 3)  # type: ignore[arg-type]
    assert type(Taxi(radius=np.int64(300)).radius) is float  # type: ignore[arg-type]
    (tmp_path / "a.txt").write_text("a few words\n" * 400)
    assert Language(source=tmp_path / "a.txt").source == str(tmp_path / "a.txt")  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Coin(DrawnTask):
    name: ClassVar[str] = "coin"
    seed: int = 0
    heldout: float = 0.1
    num_train: int | None = None
    rows: int = 500
    vocab = Vocabulary(("h", "t"), pad=-1)
    max_length = 4
    max_new_tokens = 3

    def draw(self, split: str, block: int) -> Any:
        tokens = np.zeros((self.rows or BLOCK, 4), dtype=int)
        return (tokens, 0.0) if self.rows else tokens

    def sample(self, split: Any, start: int, n: int) -> Batch:
        tokens = self.drawn(split, start, n)
        return Batch.of_sequences(tokens, tokens, -1)

    def prompts(self, split: Any, start: int, n: int) -> Any:
        return self.drawn(split, start, n)[:, :1]

    def text(self, tokens: Any) -> str:
        return ""

    def check(self, prompts: Any, completions: Any) -> Any:
        return np.ones(len(prompts), dtype=bool)


def test_a_block_is_whole() -> None:
    with pytest.raises(ValueError, match=rf"coin\.draw gave tokens \(500, 4\): expected \({BLOCK}"):
        Coin().sample("test", 0, 10)
    with pytest.raises(ValueError, match=r"coin\.draw gave a ndarray: expected tokens, and the"):
        Coin(rows=0).sample("test", 0, 10)


def test_maps_are_equal_by_content_and_their_arrays_their_own() -> None:
    ring = np.full((4, 8), -1)
    ring[:, 0] = [1, 2, 3, 0]
    metres = np.where(ring >= 0, 100.0, np.nan)

    def made(neighbour: np.ndarray, length: np.ndarray, latitude: Any = None) -> StreetMap:
        return StreetMap("ring", neighbour, length, None, latitude, np.arange(4))

    assert made(ring, metres) == made(ring.astype(np.int32), metres.astype(np.float32))
    assert ring.flags.writeable
    with pytest.raises(ValueError, match=r"StreetMap\.length = .*: expected metres, 0 or more"):
        made(ring, -metres)
    with pytest.raises(ValueError, match=r"StreetMap\.longitude = None: expected an array"):
        made(ring, metres, np.zeros(4))
    twice = ring.copy()
    twice[0, 3] = 1  # of two streets to one place a table of distances would have the sum
    with pytest.raises(ValueError, match="neighbour = .*: expected one exit at most to each"):
        made(twice, np.where(twice >= 0, 100.0, np.nan))
