"""Self-speculative decoding: greedy output token for token, sampled output in distribution."""

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_models import noisy
from torch import Tensor, nn

from nextlat_bench.data import to_tensors
from nextlat_bench.decoder import Decoder
from nextlat_bench.generate import generate
from nextlat_bench.known import known_subject
from nextlat_bench.objectives._core import Objective
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.objectives.jtp import JTP
from nextlat_bench.objectives.mtp import MTP
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.presets import taxi as preset
from nextlat_bench.run import DecoderConfig
from nextlat_bench.run_dir import RunDir
from nextlat_bench.speculate import Drafter, Greedy, Sampled, drafter_of, speculate, verify_rounds
from nextlat_bench.subject import load
from nextlat_bench.tasks._core import Batch, IntArray
from nextlat_bench.train import train
from nextlat_bench.trained import TrainedModel

DRAFTING = {"nextlat": NextLat(horizon=2), "mtp": MTP(horizon=3), "jtp": JTP(horizon=3)}
SETTINGS = ["decoder.width=32", "training.steps=60", "training.examples=64"]


def small(objective: Objective, vocab: int = 4, layers: int = 2) -> TrainedModel:
    """Random weights, far from zero."""
    config = DecoderConfig(layers=layers, heads=2, width=16)
    torch.manual_seed(0)
    model: Any = nn.Module()
    model.decoder = noisy(Decoder(config, vocab, 64), 0)
    model.extra = noisy(objective.init(config), 1)
    return TrainedModel(replace(preset.run("gpt", "smoke"), objective=objective), model)


# ---- greedy


@pytest.fixture(scope="module", params=DRAFTING)
def trained(request: pytest.FixtureRequest, tmp_path_factory: Any) -> TrainedModel:
    """A few seconds of taxi, in fp32."""
    run = preset.run(request.param, "smoke").override([*SETTINGS, "training.precision=fp32"])
    run = replace(run, objective=DRAFTING[request.param])
    folder = RunDir.prepare(tmp_path_factory.mktemp("runs"), run)
    train(run, folder, device="cpu", threads=1)
    return load(folder.path)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def prompts(trained: TrainedModel) -> IntArray:
    nodes = trained.run.task.map.num_nodes
    return np.random.default_rng(0).integers(nodes, size=(1_000, 2))


@pytest.mark.parametrize("end", ["none", "NE", "SW"])
@pytest.mark.parametrize(("draft", "threshold"), [(1, 0), (2, 0), (5, 0), (10, 0), (10, 0.3)])
def test_greedy_output_is_plain_greedy_decodings(
    trained: TrainedModel, prompts: IntArray, draft: int, threshold: float, end: str
) -> None:
    task = trained.run.task
    stop, pad = task.vocab.ids.get(end, -1), task.vocab.pad
    plain = generate(trained, prompts, task.max_new, end=stop, pad=pad)
    out, trace = speculate(
        trained,
        prompts,
        task.max_new,
        end=stop,
        pad=pad,
        draft=draft,
        threshold=threshold,
        batch=600,
    )
    assert np.array_equal(out, plain)
    going = trace.drafted >= 0
    assert (trace.accepted <= trace.drafted).all()
    assert (trace.accepted[~going] == -1).all()
    longest = draft if trained.objective.name == "nextlat" else min(draft, 3)
    assert trace.drafted.max() <= longest
    # a token a round besides the accepted drafts, but none after a drafted end
    tokens = (out != pad).sum(axis=1)
    spare = 1 + (np.where(going, trace.accepted, 0) + going).sum(axis=1) - tokens
    assert set(spare) <= {0, 1}
    if end == "none":
        assert not spare.any()
        assert trace.passes.sum() < tokens.sum()  # something was accepted
        assert threshold or trace.drafted.max() == longest


class Counting(Drafter):
    """A trunk that counts upwards, whose drafts are right so many times and then wrong."""

    def __init__(self, right: list[int], vocab: int = 50) -> None:
        self.right, self.vocab = torch.tensor(right), vocab

    def one_hot(self, tokens: Tensor) -> Tensor:
        return nn.functional.one_hot(tokens % self.vocab, self.vocab).float()

    def read(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.one_hot(tokens + 1)
        return hidden, self.right[:, None].expand_as(tokens)

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return hidden

    def begin(self, source: Tensor) -> None:
        self.left = source

    def after(self, tokens: Tensor) -> Tensor:
        self.left = self.left - 1
        return self.one_hot(tokens + torch.where(self.left >= 0, 1, 7))

    def select(self, rows: Tensor) -> None:
        self.right = self.right[rows]


def rounds_of(facts: IntArray) -> list[list[int]]:
    return [row[row >= 0].tolist() for row in facts]


def test_accepted_counts_are_those_counted_by_hand() -> None:
    ids = torch.tensor([[0, 1], [10, 11], [20, 21]])
    out, trace = verify_rounds(Counting([2, 0, 9]), ids, 12, -1, -9, Greedy(), draft=4)
    assert out.tolist() == [[*range(s, s + 12)] for s in (2, 12, 22)]
    assert rounds_of(trace.drafted) == [
        [4, 4, 4, 1],
        [4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 0],  # never more than what may still come
        [4, 4, 0],
    ]
    assert rounds_of(trace.accepted) == [[2, 2, 2, 1], [0] * 11, [4, 4, 0]]
    assert trace.passes.tolist() == [5, 12, 4]


@pytest.mark.parametrize("draft", [1, 2, 5, 10])
def test_perfect_drafts_are_accepted_at_any_length(draft: int) -> None:
    ids = torch.tensor([[0], [10]])
    out, trace = verify_rounds(Counting([99, 99]), ids, 30, -1, -9, Greedy(), draft)
    assert out.tolist() == [[*range(1, 31)], [*range(11, 41)]]
    assert np.array_equal(trace.accepted, trace.drafted)
    assert [sum(row) for row in rounds_of(trace.accepted)] == [30 - trace.passes[0]] * 2
    assert trace.drafted[0, :2].tolist() == [draft, draft]


def test_nothing_follows_the_end() -> None:
    ids = torch.tensor([[3], [6], [7]])
    out, trace = verify_rounds(Counting([9, 9, 1]), ids, 8, 8, -9, Greedy(), draft=5)
    assert [row[row != -9].tolist() for row in out] == [[4, 5, 6, 7, 8], [7, 8], [8]]
    # drafts 5 6 7 8, the last of them `end`, and 8; the third row's first token is `end`
    assert rounds_of(trace.drafted) == rounds_of(trace.accepted) == [[4], [1], []]
    assert trace.passes.tolist() == [2, 2, 1]


def test_unsure_drafts_stop_early() -> None:
    model = small(NextLat())
    ids = np.zeros((200, 1), dtype=np.int64)
    ids[:, 0] = np.arange(200) % 4
    sure = speculate(model, ids, 20, end=-1, pad=-9, draft=10, threshold=1e-9)[1]
    unsure = speculate(model, ids, 20, end=-1, pad=-9, draft=10, threshold=1.0)[1]
    assert sure.drafted.max() == 10
    assert unsure.drafted.max() == 1  # the unsure token itself is still verified


class Wavering(Counting):
    """Of its drafts each is less likely, by its own word, than the one before."""

    def begin(self, source: Tensor) -> None:
        super().begin(source)
        self.odds = iter((0.9, 0.8, 0.7, 0.4, 0.3, 0.2))

    def after(self, tokens: Tensor) -> Tensor:
        p, token = next(self.odds), super().after(tokens)
        return (token * p + (1 - token) * (1 - p) / (self.vocab - 1)).log()


def test_the_first_draft_less_likely_than_the_threshold_is_the_last() -> None:
    for threshold, drafted in ((0.95, 1), (0.85, 2), (0.75, 3), (0.5, 4), (0.35, 5), (0.0, 6)):
        ids = torch.tensor([[0]])
        trace = verify_rounds(Wavering([99]), ids, 20, -1, -9, Greedy(), 6, threshold)[1]
        assert trace.drafted[0, 0] == drafted


@pytest.mark.parametrize("draft", [1, 2, 5, 10])
def test_latent_dynamics_that_are_perfect_are_accepted_at_any_length(
    cycler: TrainedModel, draft: int
) -> None:
    prompts = np.arange(12)[:, None]
    out, trace = speculate(cycler, prompts, 24, end=-1, pad=-9, draft=draft)
    assert np.array_equal(out, (prompts + 1 + np.arange(24)) % 12)
    assert np.array_equal(trace.accepted, trace.drafted)
    assert trace.drafted.max() == draft


@pytest.fixture(scope="module")
def cycler() -> TrainedModel:
    """NextLat on a deterministic task: 0, 1, .., 11, 0, 1, .."""
    objective = NextLat(horizon=8)
    model = small(objective, vocab=13)
    tokens = (np.arange(12)[:, None] + np.arange(30)) % 12
    batch = to_tensors(Batch.of_sequences(tokens, (tokens + 1) % 12, 12), False)
    optimizer = torch.optim.AdamW(model.model.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        objective.loss(model.model.decoder, model.model.extra, batch).total.backward()
        optimizer.step()
    return model


# ---- sampling

VOCAB, NEW, END, PAD, SAMPLES = 4, 4, 3, 9, 20_000


def exact(model: TrainedModel, temperature: float) -> dict[tuple[int, ...], float]:
    """Every completion of the prompt 0 and its probability."""
    found: dict[tuple[int, ...], float] = {}
    for tokens in product(range(VOCAB), repeat=NEW):
        logits = model.log_probs(np.array([[0, *tokens]]))[0].astype(np.float64) / temperature
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        stop = tokens.index(END) + 1 if END in tokens else NEW
        key = tokens[:stop] + (PAD,) * (NEW - stop)
        found[key] = float(np.exp(sum(logits[t, tokens[t]] for t in range(stop))))
    assert sum(found.values()) == pytest.approx(1)
    return found


def p_value(
    model: TrainedModel, kind: type[Sampled], draft: int, threshold: float, temperature: float
) -> float:
    """Chi-square of sampled completions against their exact distribution; rare ones together."""
    choice = kind(np.random.default_rng(0), temperature, "cpu")
    ids = torch.zeros(SAMPLES, 1, dtype=torch.long)
    out, trace = verify_rounds(drafter_of(model), ids, NEW, END, PAD, choice, draft, threshold)
    assert 0 < trace.accepted.max() <= trace.drafted.max()
    seen, counts = np.unique(out, axis=0, return_counts=True)
    observed = {tuple(row): count for row, count in zip(seen.tolist(), counts, strict=True)}
    wanted = exact(model, temperature)
    assert observed.keys() <= wanted.keys()
    table = np.array([[observed.get(key, 0), SAMPLES * p] for key, p in wanted.items()])
    rare = table[:, 1] < 10
    cells = np.vstack([table[~rare], table[rare].sum(axis=0)])
    cells = cells[cells[:, 1] >= 10]
    return float(chisquare(cells[:, 0], cells[:, 1] * cells[:, 0].sum() / cells[:, 1].sum()).pvalue)


class Naive(Sampled):
    """Inexact: a draft is accepted where p > q, and p itself takes a rejected one's place."""

    def accepts(self, ratio: Tensor) -> Tensor:
        return ratio > 1

    def rest(self, p: Tensor, q: Tensor) -> Tensor:
        return p


class Careless(Sampled):
    """Inexact: the right rate of acceptance, but after a rejection p itself."""

    def rest(self, p: Tensor, q: Tensor) -> Tensor:
        return p


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("draft", "threshold"), [(1, 0), (3, 0), (3, 0.4)])
@pytest.mark.parametrize("name", DRAFTING)
def test_sampled_output_has_the_models_distribution(
    name: str, draft: int, threshold: float, temperature: float
) -> None:
    assert p_value(small(DRAFTING[name]), Sampled, draft, threshold, temperature) > 1e-3


@pytest.mark.parametrize("kind", [Naive, Careless])
@pytest.mark.parametrize("name", DRAFTING)
def test_inexact_sampling_fails_the_same_test(name: str, kind: type[Sampled]) -> None:
    assert p_value(small(DRAFTING[name]), kind, 3, 0, 1.0) < 1e-9


def test_sampling_repeats_by_its_seed() -> None:
    model, ids = small(NextLat()), np.zeros((50, 1), dtype=np.int64)
    first, again, other = (
        speculate(model, ids, 6, end=END, pad=PAD, rng=np.random.default_rng(seed))[0]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- going back

Round = tuple[list[int], list[int]]  # tokens drafted and accepted in each row


@st.composite
def patterns(draw: Any) -> list[Round]:
    rounds = []
    for _ in range(draw(st.integers(1, 5))):
        drafted = draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
        rounds.append((drafted, [draw(st.integers(0, most)) for most in drafted]))
    return rounds


@cache
def one(name: str) -> TrainedModel:
    return small(DRAFTING[name], vocab=12)


@pytest.mark.parametrize("name", DRAFTING)
@settings(max_examples=40)
@given(rounds=patterns(), seed=st.integers(0, 99))
@torch.inference_mode()
def test_after_any_rounds_the_state_is_that_of_a_fresh_reading(
    name: str, rounds: list[Round], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    drafter = drafter_of(one(name))
    kept = [list(rng.integers(12, size=2)) for _ in range(3)]
    position = torch.arange(2).expand(3, 2)
    drafter.read(torch.tensor(np.array(kept)), position)
    for drafted, accepted in rounds:
        width = max(drafted) + 1
        tokens = rng.integers(12, size=(3, width))
        steps = np.minimum(np.arange(width), np.array(drafted)[:, None])
        tokens = np.take_along_axis(tokens, steps, axis=1)
        position = torch.from_numpy(steps + np.array([[len(row)] for row in kept]))
        hidden, source = drafter.read(torch.from_numpy(tokens), position)
        for row, a in enumerate(accepted):
            kept[row] += tokens[row, : a + 1].tolist()
    for row, a in enumerate(accepted):
        fresh, read = drafter_of(one(name)), torch.tensor([kept[row]])
        wanted, wanted_source = fresh.read(read, torch.arange(len(kept[row]))[None])
        torch.testing.assert_close(hidden[row, a], wanted[0, -1])
        torch.testing.assert_close(source[row, a], wanted_source[0, -1])
        for ours, its in zip(
            drafter.cache.keys + drafter.cache.values,
            fresh.cache.keys + fresh.cache.values,
            strict=True,
        ):
            n = len(kept[row])
            torch.testing.assert_close(ours[row, :, :n], its[0, :, :n])


# ---- refusals


def test_what_drafts_nothing_is_refused(taxi: Any) -> None:
    ids = np.zeros((1, 1), dtype=np.int64)
    for model in (small(GPT()), known_subject("oracle", taxi)):
        with pytest.raises(ValueError, match="drafts nothing: only trained models of nextlat, mtp"):
            speculate(model, ids, 4, end=END, pad=PAD)  # type: ignore[arg-type]
    for draft in (0, 11):
        with pytest.raises(
            ValueError, match=f"draft = {draft}: expected a whole number from 1 to 10"
        ):
            speculate(small(NextLat()), ids, 4, end=END, pad=PAD, draft=draft)
    with pytest.raises(ValueError, match="max_new = 0: expected a whole number from 1"):
        speculate(small(NextLat()), ids, 0, end=END, pad=PAD)
    with pytest.raises(ValueError, match="temperature = 0: expected a number above 0"):
        speculate(small(NextLat()), ids, 4, end=END, pad=PAD, temperature=0)


def test_after_a_rejection_of_equals_there_is_something_to_draw_from() -> None:
    """By rounding p / q may be a hair below 1, and of p - q nothing is left."""
    p, q = torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    rest = Sampled(np.random.default_rng(0), 1.0, "cpu").rest(p, q)
    assert rest.tolist() == [[0.25, 0.75], [0.0, 0.25]]


def test_no_prompts() -> None:
    out, trace = speculate(small(NextLat()), np.zeros((0, 2), dtype=np.int64), 5, end=END, pad=PAD)
    assert out.shape == (0, 5)
    assert trace.drafted.shape == (0, 4)


def test_near_temperature_0_sampling_is_greedy() -> None:
    model, ids = small(NextLat()), np.arange(4)[:, None].repeat(20, axis=0)
    greedy = speculate(model, ids, 6, end=END, pad=PAD)[0]
    cold, warm = (
        speculate(
            model, ids, 6, end=END, pad=PAD, rng=np.random.default_rng(0), temperature=temperature
        )[0]
        for temperature in (1e-4, 1.0)
    )
    np.testing.assert_array_equal(cold, greedy)
    assert not np.array_equal(warm, greedy)
