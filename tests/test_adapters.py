"""Anybody's model as a subject: it reads as its own forward pass does, and refuses what it must."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from real_runs import added, here
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from nextlat_bench.adapters import CallableModel, HuggingFace, load_model
from nextlat_bench.known import known_subject
from nextlat_bench.presets import taxi as preset
from nextlat_bench.probes.compression import Compression
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.report.records import collect, read
from nextlat_bench.report.tables import table
from nextlat_bench.scripted import Oracle
from nextlat_bench.subject import LatentSubject
from nextlat_bench.tasks.taxi import Taxi

TASK = preset.run("gpt", "smoke", 0).task
V = len(TASK.vocab)
NARROW = {"hidden_size": 32, "num_hidden_layers": 2}
LLAMA = NARROW | {"num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.3}
NO_WORDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
FAMILIES: dict[str, Callable[[int], PretrainedConfig]] = {
    "gpt2": lambda v: transformers.GPT2Config(
        vocab_size=v,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        **NO_WORDS,
    ),
    "llama": lambda v: transformers.LlamaConfig(vocab_size=v, **LLAMA, **NO_WORDS),
    # a window of four tokens, and logits that are capped after the head
    "gemma2": lambda v: transformers.Gemma2Config(
        vocab_size=v, **LLAMA, num_key_value_heads=1, head_dim=16, sliding_window=4, **NO_WORDS
    ),
    # a state that is written in place
    "mamba": lambda v: transformers.MambaConfig(vocab_size=v, **NARROW, state_size=4, **NO_WORDS),
    # no cache that sessions could go on from
    "rwkv": lambda v: transformers.RwkvConfig(
        vocab_size=v, **NARROW, context_length=64, **NO_WORDS
    ),
}


def made(family: str = "gpt2", vocab: int = V, **changes: Any) -> Any:
    torch.manual_seed(5)
    config = FAMILIES[family](vocab)
    config.update(changes)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(params=FAMILIES)
def subject(request: pytest.FixtureRequest) -> HuggingFace:
    """Of a model with more tokens than the task, in another order."""
    ids = np.random.default_rng(1).permutation(V + 20)[:V]
    return HuggingFace(made(request.param, V + 20), TASK, ids)


def tokens_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=shape)


def test_it_says_what_the_model_says_of_the_tasks_tokens(subject: HuggingFace) -> None:
    tokens = tokens_of(0, 5, 9)
    subject.model.eval()
    with torch.inference_mode():
        logits = subject.model(torch.as_tensor(subject.ids[tokens])).logits[..., subject.ids]
    odds = np.exp(logits.double().numpy())
    expected = odds / odds.sum(axis=-1, keepdims=True)
    assert np.allclose(np.exp(subject.log_probs(tokens)), expected, atol=1e-6)
    assert expected.max() > 2 / V, "a flat model would tell nothing"


def test_sessions_equal_one_pass(subject: HuggingFace) -> None:
    tokens = tokens_of(0, 5, 9)
    whole = subject.log_probs(tokens)
    session = subject.start(tokens[:, :2])
    for t in range(2, 9):
        assert np.allclose(session.log_probs, whole[:, t - 1], atol=1e-4)
        session.advance(tokens[:, t])
    assert np.allclose(session.log_probs, whole[:, -1], atol=1e-4)


def test_branches_leave_each_other_alone(subject: HuggingFace) -> None:
    tokens, rows = tokens_of(1, 3, 6), np.array([2, 0, 2, 2])
    session = subject.start(tokens[:, :4])
    one, other = session.select(rows), session.select(rows)
    assert np.array_equal(one.log_probs, session.log_probs[rows])
    for t in (4, 5):  # by turns
        one.advance(tokens[rows, t])
        other.advance(tokens[rows, t - 3])
        session.advance(tokens[:, t])
    swerved = np.concatenate((tokens[rows, :4], tokens[rows, 1:3]), axis=1)
    for branch, path in ((one, tokens[rows]), (other, swerved), (session, tokens)):
        assert np.allclose(branch.log_probs, subject.log_probs(path)[:, -1], atol=1e-4)
    assert not np.allclose(one.log_probs, other.log_probs, atol=1e-2)


def test_hidden_states(subject: HuggingFace) -> None:
    tokens = tokens_of(2, 4, 7)
    hidden = subject.hidden(tokens)
    assert isinstance(subject, LatentSubject)
    assert hidden.shape == subject.hidden(tokens, "embedding").shape == (4, 7, 32)
    if subject.model.config.model_type != "gemma2":  # its cap comes after the head
        assert np.allclose(subject.read_out(hidden), subject.log_probs(tokens), atol=1e-4)
    assert subject.predict_hidden(hidden[:, 0], tokens[:, 1]) is None
    fresh = subject.untrained()
    torch.rand(1)  # whatever was drawn before, it is the same
    assert not np.allclose(fresh.hidden(tokens), hidden, atol=0.1)
    assert np.array_equal(fresh.hidden(tokens), subject.untrained().hidden(tokens))
    with pytest.raises(ValueError, match="reading = 'other'"):
        subject.hidden(tokens, "other")


# -- folders and the command line -------------------------------------------------------------


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As the installed command, which does not look in the current folder by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "nextlat_bench", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"TERM": "dumb", "COLUMNS": "110"},
        timeout=300,
    )


def write_tokenizer(path: Path, ids: np.ndarray) -> None:
    from tokenizers import Tokenizer, models

    words = {token: int(i) for token, i in zip(TASK.vocab.tokens, ids, strict=True)}
    Tokenizer(models.WordLevel(words, unk_token=TASK.vocab.tokens[0])).save(str(path))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain/ and permuted/: one model whose tokens have other ids in the second."""
    folder = tmp_path_factory.mktemp("models")
    plain, permuted = made(), made()
    ids = np.random.default_rng(2).permutation(V)
    weight = permuted.get_input_embeddings().weight  # the output head's too
    weight.data[ids] = plain.get_input_embeddings().weight.data
    plain.save_pretrained(folder / "plain")
    permuted.save_pretrained(folder / "permuted")
    write_tokenizer(folder / "permuted" / "tokenizer.json", ids)
    return folder


PROBE = ["probe", "--task", "taxi", "--scale", "smoke", "--model"]


def test_a_folder_is_probed_once_and_has_its_row(place: Path) -> None:
    done = call(*PROBE, "plain", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Hugging Face (plain)" in done.stdout
    assert "transition: plain predicts no next hidden state" in done.stdout
    assert done.stderr == ""
    [folder] = (place / "runs").glob("taxi-plain-smoke-*")
    records = read(folder / "records.jsonl")
    assert {"state_probe", "compression", "rank"} <= {
        r.probe for r in records if r.value is not None
    }
    assert len(records[0].objective_parameters["weights_digest"]) == 64
    before = (folder / "records.jsonl").stat()
    again = here(*PROBE, "plain", "compression", cwd=place)
    assert again.returncode == 0, again.stderr
    assert (folder / "records.jsonl").stat() == before
    made_of = table("taxi", collect(place / "runs"))
    for text in (made_of.markdown(), made_of.latex(), made_of.csv()):
        assert "Hugging Face (plain)" in text


def test_ids_by_text_are_the_same_model(place: Path) -> None:
    probes = ["next_token", "trajectories", "compression", "rank"]
    found = []
    for name in ("plain", "permuted"):
        arguments = [*PROBE, str(place / name), *probes, "--out", str(place / "two")]
        assert here(*arguments).returncode == 0
        [folder] = (place / "two").glob(f"taxi-{name}-*")
        found.append(read(folder / "records.jsonl"))
    for one, other in zip(*found, strict=True):
        assert (one.probe, one.metric, one.n) == (other.probe, other.metric, other.n)
        assert other.value == pytest.approx(one.value, rel=1e-4)
    assert {r.objective_parameters["ids"] for r in found[1]} == {"by text"}
    assert found[0][0].value not in (0, 1)


def test_other_weights_are_another_model(place: Path) -> None:
    subjects = [HuggingFace.load(place / name, TASK) for name in ("plain", "permuted")]
    digests = [subject.facts["weights_digest"] for subject in subjects]
    assert digests[0] != digests[1]
    tokens = tokens_of(3, 2, 5)
    assert np.allclose(*(subject.log_probs(tokens) for subject in subjects), atol=1e-4)


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("sprung",))


def test_no_pickle_is_loaded_and_no_code_is_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made().save_pretrained(tmp_path / "trap")
    for name in ("pytorch_model.bin", "adapter_model.bin"):
        (tmp_path / "trap" / name).write_bytes(pickle.dumps(Trap()))
    weight_map = {"transformer.wte.weight": "pytorch_model.bin"}
    index = tmp_path / "trap" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    adapter = {"base_model_name_or_path": "trap", "peft_type": "LORA"}
    (tmp_path / "trap" / "adapter_config.json").write_text(json.dumps(adapter))
    config = tmp_path / "trap" / "config.json"
    mapped = {"AutoConfig": "code.Trap", "AutoModelForCausalLM": "code.Trap"}
    (tmp_path / "trap" / "code.py").write_text("import os; os.mkdir('sprung')")
    named = {"auto_map": mapped, "attn_implementation": "someone/code"}
    config.write_text(json.dumps(json.loads(config.read_text()) | named))
    tokens = tokens_of(4, 2, 5)
    plain = HuggingFace.load(place / "plain", TASK).log_probs(tokens)
    assert np.array_equal(HuggingFace.load("trap", TASK).log_probs(tokens), plain)
    config.write_text(json.dumps({"model_type": "trap", "auto_map": mapped}))
    with pytest.raises(ValueError, match="trap cannot be read"):
        HuggingFace.load("trap", TASK)
    (tmp_path / "trap" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"trap holds no model: expected config.json and model"):
        HuggingFace.load("trap", TASK)
    assert not Path("sprung").exists()


def test_a_damaged_folder_is_one_clear_line(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    made().save_pretrained(path)
    weights = path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    with pytest.raises(ValueError, match="model cannot be read"):
        load_model(str(path), TASK)
    made(n_layer=1).save_pretrained(path)
    (path / "config.json").write_bytes((place / "plain" / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"lacks weights: transformer.h.1"):
        load_model(str(path), TASK)
    weights.write_bytes(content)
    (path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json is damaged"):
        load_model(str(path), TASK)
    (path / "config.json").write_text("[")
    with pytest.raises(ValueError, match="model cannot be read"):
        load_model(str(path), TASK)


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=f"has a vocabulary of 50: taxi needs ids up to {V - 1}"):
        HuggingFace(made(vocab=50), TASK)
    with pytest.raises(ValueError, match=f"has a context of 16 tokens: taxi needs {TASK.longest}"):
        HuggingFace(made(n_positions=16), TASK)
    with pytest.raises(ValueError, match=f"ids: expected {V} different ones"):
        HuggingFace(made(), TASK, np.zeros(V, dtype=int))
    bert = transformers.BertConfig(vocab_size=V, **LLAMA)  # sees both sides
    with pytest.raises(ValueError, match="reads ahead"):
        HuggingFace(AutoModelForCausalLM.from_config(bert), TASK)


# -- callables --------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [Trajectories(num_trials=50), Compression(num_states=20)])
def test_a_callable_scores_as_what_it_wraps(probe: Any) -> None:
    def scores(subject: Any) -> list[Any]:
        return list(probe.measure(subject, TASK, np.random.default_rng(0)))

    known = [known_subject(name, TASK) for name in ("oracle", "forgetful")]
    # logits may be shifted
    wrapped = [CallableModel(lambda tokens, k=k: k.log_probs(tokens) + 3, TASK) for k in known]
    assert [scores(w) for w in wrapped] == [scores(k) for k in known]
    assert scores(wrapped[0]) != scores(wrapped[1])


class Bigrams(nn.Module):
    """The simplest torch module that reads tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, V)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens).bfloat16()


def test_a_torch_module_is_given_tensors() -> None:
    module = Bigrams()
    subject = CallableModel(module, TASK)
    tokens = tokens_of(5, 3, 4)
    logits = module.table.weight.detach()[torch.as_tensor(tokens)].bfloat16().float()
    assert np.allclose(subject.log_probs(tokens), logits.log_softmax(-1), atol=1e-5)
    session = subject.start(tokens[:, :2])
    branch = session.select(np.array([1, 1]))
    branch.advance(tokens[:2, 3])
    assert np.allclose(branch.log_probs, subject.log_probs(tokens)[:2, 3])
    assert np.allclose(session.log_probs, subject.log_probs(tokens)[:, 1])


def test_callables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gave logits \(1, \d+, 3\): expected \(1, \d+, "):
        CallableModel(lambda x: np.zeros((*x.shape, 3)), TASK)
    with pytest.raises(ValueError, match="no probabilities"):
        CallableModel(lambda x: np.full((*x.shape, V), np.nan), TASK)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="other logits for the same tokens: is dropout on"):
        CallableModel(lambda x: rng.normal(size=(*x.shape, V)), TASK)
    with pytest.raises(ValueError, match="reads ahead"):
        CallableModel(lambda x: np.eye(V)[np.roll(x, -1, axis=1)], TASK)
    oracle = Oracle(Taxi(radius=200, max_nodes=8, max_path=4, max_new=8))
    with pytest.raises(ValueError, match="gave logits"):
        CallableModel(lambda x: np.zeros((*x.shape, oracle.vocab_size)), TASK)


FLAT = "import numpy as np\n\ndef flat(tokens):\n    return np.zeros((*tokens.shape, {}))\n"


def test_what_goes_wrong_in_a_callable_is_one_clear_line() -> None:
    def broken(tokens: Any) -> Any:
        raise KeyError("weights")

    for function, said in (
        (broken, r"could not be asked: KeyError: 'weights'"),
        (lambda tokens, more: tokens, "could not be asked: TypeError: "),
        (lambda tokens: np.full(tokens.shape, "a"), "could not be asked: TypeError: Cannot cast"),
        (lambda tokens: np.zeros((*tokens.shape, V), complex), "TypeError: Cannot cast .*complex"),
        (lambda tokens: sys.exit("done"), "could not be asked: SystemExit: done"),
    ):
        with pytest.raises(ValueError, match=said):
            CallableModel(function, TASK)


def test_a_dotted_name_is_probed(tmp_path: Path) -> None:
    def asked(*probes: str) -> subprocess.CompletedProcess[str]:
        with added(tmp_path):
            return here(*PROBE, *probes, cwd=tmp_path)

    (tmp_path / "mine.py").write_text(FLAT.format(V))
    done = call(*PROBE, "mine:flat", "next_token", "rank", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Callable (mine:flat)" in done.stdout
    assert "rank: mine:flat has no hidden states" in done.stdout
    (tmp_path / "mine.py").write_text(FLAT.format(V) + "\n# another model\n")
    assert asked("mine:flat", "next_token").returncode == 0
    assert len(list((tmp_path / "runs").glob("taxi-mine-flat-smoke-*"))) == 2
    refused = asked("mine:none")
    assert refused.returncode == 2
    assert refused.stderr.startswith("nextlat-bench: mine:none: AttributeError: module 'mine'")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mine_too:np.pi", "mine_too:np.pi is no function but float"),
        ("mine_too:", "AttributeError"),
        ("yours:flat", "ModuleNotFoundError: No module named 'yours'"),
        ("broken:flat", "broken:flat: SyntaxError"),
        ("ends:flat", r"ends:flat: SystemExit: 3 \(.*ends.py, line 2, in <module>\)"),
        ("errs:flat", r"could not be asked: KeyError: 0 \(.*errs.py, line 2, in flat\)"),
        ("mine_too", "no such folder, nor a name package.module:function"),
    ],
)
def test_names_of_no_callable_are_refused(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    Path("mine_too.py").write_text(FLAT.format(V))
    Path("broken.py").write_text("def flat(:")
    Path("ends.py").write_text("import sys\nsys.exit(3)")
    Path("errs.py").write_text("def flat(tokens):\n    return {}[0]")
    with pytest.raises(ValueError, match=reason):
        load_model(name, TASK)
