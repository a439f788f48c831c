"""A trained decoder as a subject, and the records that probes leave."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small_models import ON_TAXI

from nextlat_bench import registry
from nextlat_bench.files import atomic_write
from nextlat_bench.generate import generate
from nextlat_bench.known import known_subject
from nextlat_bench.measure import chosen_probes, known_identity, measure, run_identity
from nextlat_bench.model import build
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.presets import taxi as preset
from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes.rank import Rank, effective_rank
from nextlat_bench.probes.state_probe import StateProbe
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.subject import load
from nextlat_bench.train import train
from nextlat_bench.trained import TrainedModel

SMALL = ["decoder.layers=2", "decoder.width=32", "training.steps=4", "training.examples=8"]


def small_run(objective: str) -> Run:
    return preset.run(objective, "smoke", 0).override(SMALL)


@pytest.fixture(params=ON_TAXI)
def subject(request: pytest.FixtureRequest) -> TrainedModel:
    run = small_run(request.param).override(["decoder.zero_init_residual=false"])
    model = build(run)
    for parameter in model.parameters():  # away from the initial zeros
        parameter.data += 0.05
    return TrainedModel(run, model)


def test_sessions_equal_one_pass(subject: TrainedModel) -> None:
    tokens = np.random.default_rng(0).integers(subject.vocab_size, size=(5, 9))
    whole = subject.log_probs(tokens)
    assert np.allclose(np.exp(whole).sum(-1), 1, atol=1e-5)
    session = subject.start(tokens[:, :2])
    for t in range(2, 9):
        assert np.allclose(session.log_probs, whole[:, t - 1], atol=1e-5)
        session.advance(tokens[:, t])
    assert np.allclose(session.log_probs, whole[:, -1], atol=1e-5)


def test_select_repeats_and_leaves_the_original_alone(subject: TrainedModel) -> None:
    tokens = np.random.default_rng(1).integers(subject.vocab_size, size=(3, 6))
    session = subject.start(tokens[:, :4])
    rows = np.array([2, 0, 2, 2])
    picked = session.select(rows)
    picked.advance(tokens[rows, 4])
    assert np.allclose(picked.log_probs, subject.log_probs(tokens[rows, :5])[:, -1], atol=1e-5)
    session.advance(tokens[:, 4])
    assert np.allclose(session.log_probs, subject.log_probs(tokens[:, :5])[:, -1], atol=1e-5)


def test_greedy_generation_equals_a_slow_loop(subject: TrainedModel) -> None:
    task = subject.run.task
    prompts = task.prompts("test", 0, 6)
    end, pad = task.vocab.end, task.vocab.pad
    fast = generate(subject, prompts, 12, end=end, pad=pad)
    for prompt, completion in zip(prompts, fast, strict=True):
        tokens = list(prompt)
        slow = []
        while len(slow) < 12 and (not slow or slow[-1] != end):
            slow.append(int(subject.log_probs(np.array([tokens]))[0, -1].argmax()))
            tokens.append(slow[-1])
        assert completion.tolist() == slow + [pad] * (12 - len(slow))


def test_hidden_states_and_latent_dynamics(subject: TrainedModel) -> None:
    tokens = np.random.default_rng(2).integers(subject.vocab_size, size=(4, 7))
    hidden = subject.hidden(tokens)
    assert hidden.shape == (4, 7, 32)
    assert subject.hidden(tokens, "embedding").shape == (4, 7, 32)
    with pytest.raises(ValueError, match="reading = 'other'"):
        subject.hidden(tokens, "other")
    predicted = subject.predict_hidden(hidden[:, 0], tokens[:, 1])
    rolls = isinstance(subject.objective, NextLat)
    assert (predicted is not None) == rolls
    assert np.allclose(np.exp(subject.read_out(hidden[:, 0])).sum(-1), 1, atol=1e-5)
    fresh = subject.untrained().hidden(tokens)
    assert not np.allclose(fresh, hidden)


def test_an_untrained_decoder_reads_more_than_its_last_token() -> None:
    """Where blocks that begin as the identity would show the embedding alone."""
    run = small_run("gpt").override(["decoder.zero_init_residual=true"])
    subject = TrainedModel(run, build(run))
    tokens = np.array([[1, 5, 9], [2, 5, 9]])
    for model, reads in ((subject, False), (subject.untrained(), True)):
        one, other = model.hidden(tokens)[:, -1]
        assert np.allclose(one, other, atol=1e-3) != reads


def test_what_the_heads_of_mtp_read_is_a_reading_of_its_own(subject: TrainedModel) -> None:
    task, rng = subject.run.task, np.random.default_rng(0)
    tokens = rng.integers(subject.vocab_size, size=(4, 7))
    rank = list(Rank(num_positions=300).measure(subject, task, rng))
    state = list(StateProbe(num_sequences=32).measure(subject, task, rng))
    values = {m.condition: m.value for m in rank if m.metric == "effective_rank"}
    if subject.objective.name != "mtp":
        assert set(values) == {""}
        assert "trunk" not in {m.condition for m in state}
        with pytest.raises(ValueError, match="reading = 'trunk': expected hidden or embedding"):
            subject.hidden(tokens, "trunk")
        return
    decoder = subject.model.decoder
    trunk = torch.as_tensor(subject.hidden(tokens, "trunk"))
    with torch.no_grad():
        attended = decoder.attended(7, 0, None, None)
        hidden = decoder.norm(decoder.blocks[-1](trunk, attended)).numpy()
    assert np.allclose(hidden, subject.hidden(tokens), atol=1e-5)
    states = Rank(num_positions=300).hidden_states(subject, task, "trunk")
    assert values["trunk"] == pytest.approx(effective_rank(np.concatenate(states)))
    assert values["trunk"] != pytest.approx(values[""])
    assert "trunk" in {m.condition for m in state}


def test_load(tmp_path: Path) -> None:
    run = small_run("nextlat")
    folder = RunDir.prepare(tmp_path, run)
    with pytest.raises(RunDirError, match="holds no trained model: run the same command again"):
        load(folder.path)
    train(run, folder, device="cpu")
    loaded = load(str(folder.path))
    assert loaded.name == run.id
    prompts = run.task.prompts("test", 0, 3)
    assert np.isfinite(loaded.start(prompts).log_probs).all()
    with pytest.raises(RunDirError, match=r"is .* a run folder"):
        load(tmp_path)


@dataclass(frozen=True, kw_only=True)
class Counted(Probe):
    """Counts how often it is asked."""

    name: ClassVar[str] = "counted"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("value", True, "share", "a random number"),)
    requires: ClassVar[frozenset[str]] = frozenset()
    catches: ClassVar[tuple[str, ...]] = ()
    misses: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[list[str]] = []

    def measure(self, subject, task, rng) -> Iterator[Measurement]:  # type: ignore[no-untyped-def]
        self.calls.append(self.name)
        value = float(rng.random())
        yield Measurement("value", value, value, value, 1)


@dataclass(frozen=True, kw_only=True)
class Never(Counted):
    """Does not apply."""

    name: ClassVar[str] = "never"

    def measure(self, subject, task, rng) -> Iterator[Measurement]:  # type: ignore[no-untyped-def]
        raise NotApplicable("no task has what it takes")
        yield


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    run = small_run("gpt")
    subject = TrainedModel(run, build(run))
    path = tmp_path / "records.jsonl"
    probes = [Counted(), Never()]
    Counted.calls.clear()
    first = measure(subject, run.task, probes, run_identity(run), tmp_path)
    content = path.read_bytes()
    second = measure(subject, run.task, probes, run_identity(run), tmp_path)
    assert Counted.calls == ["counted"]
    assert first == second
    assert path.read_bytes() == content
    record, never = first
    assert never.value is None
    assert never.skipped_because == "no task has what it takes"
    assert (record.run, record.objective, record.step) == (run.id, "gpt", 4)
    assert record.task_parameters["streets"]["source"] == "heliopolis"


@pytest.mark.parametrize("name", ["taxi", "path_star", "countdown", "a5"])
def test_settings_can_be_chosen_without_the_test_split(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.load("presets", name).run("gpt", "smoke", 0).task
    subject = known_subject("oracle", task)
    for method in ("sample", "prompts", "of_length"):
        own = getattr(type(task), method)

        def guarded(self: object, split: str, *rest: int, own: Any = own) -> Any:
            assert split != "test"
            return own(self, split, *rest)

        monkeypatch.setattr(type(task), method, guarded)
    probes = chosen_probes(name, "smoke", None)
    identity = known_identity("oracle", task, "smoke")
    found = measure(subject, task, probes, identity, tmp_path, split="validation")
    assert any(record.value is not None for record in found)
    assert [path.name for path in tmp_path.iterdir()] == ["validation.jsonl"]


def test_a_damaged_run_json_is_one_clear_line(tmp_path: Path) -> None:
    folder = RunDir.prepare(tmp_path, small_run("gpt"))
    atomic_write(folder.run_json, b"[]")
    with pytest.raises(RunDirError, match="is damaged"):
        load(folder.path)
