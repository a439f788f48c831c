"""A trained model as two files: what is read back is the model, and nothing else is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from small_models import ON_TAXI
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from nextlat_bench.adapters import HuggingFace
from nextlat_bench.cli import app
from nextlat_bench.decoder import Decoder
from nextlat_bench.export import export, is_exported
from nextlat_bench.llama import check_plain, llama_config
from nextlat_bench.model import build
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.presets import taxi as preset
from nextlat_bench.report.records import read
from nextlat_bench.run import DecoderConfig
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.subject import LatentSubject, load
from nextlat_bench.train import train

SMALL = ["decoder.layers=2", "decoder.width=32", "decoder.zero_init_residual=false"]
SMALL += ["training.steps=4", "training.examples=8", "training.warmup_steps=0"]


def trained(out: Path, objective: str = "nextlat") -> RunDir:
    run = preset.run(objective, "smoke", 0).override(SMALL)
    folder = RunDir.prepare(out, run)
    train(run, folder, device="cpu", threads=1)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return trained(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("objective", ON_TAXI)
def test_what_is_read_back_is_the_model(objective: str, tmp_path: Path) -> None:
    folder = trained(tmp_path / "runs", objective)
    before = load(folder.path)
    out = export(folder.path, tmp_path / "deep" / "model")
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json"}
    assert is_exported(out)
    assert not is_exported(folder.path)
    folder.path.rename(tmp_path / "elsewhere")  # all that is needed is in the two files
    after = load(out)
    tokens = np.random.default_rng(0).integers(before.vocab_size, size=(3, 9))
    assert np.array_equal(after.log_probs(tokens), before.log_probs(tokens))
    assert after.run == before.run  # type: ignore[attr-defined]
    untrained = build(before.run)  # type: ignore[attr-defined]
    assert not torch.equal(untrained.decoder.head.weight, after.model.decoder.head.weight)  # type: ignore[attr-defined]


@pytest.mark.parametrize("objective", ["gpt", "mtp", "nextlat", "noisy_nextlat"])
def test_a_plain_decoder_is_a_llama(objective: str, tmp_path: Path) -> None:
    """transformers gives our own logits, hidden states and sessions."""
    folder = trained(tmp_path / "runs", objective)
    ours = load(folder.path)
    out = export(folder.path, tmp_path / "llama", "llama")
    theirs = HuggingFace.load(out, folder.run().task)
    tokens = np.random.default_rng(0).integers(ours.vocab_size, size=(3, 30))
    assert np.allclose(theirs.log_probs(tokens), ours.log_probs(tokens), atol=1e-5)
    assert isinstance(ours, LatentSubject)
    assert np.allclose(theirs.hidden(tokens), ours.hidden(tokens), atol=1e-5)
    config = theirs.model.config
    assert (config.model_type, config.max_position_embeddings) == (
        "llama",
        ours.model.decoder.max_length,  # type: ignore[attr-defined]
    )
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32


@pytest.mark.parametrize("objective", ["jtp", "bst", "gru"])
def test_others_are_no_llama(objective: str, tmp_path: Path) -> None:
    folder = trained(tmp_path / "runs", objective)
    with pytest.raises(ValueError, match=f"{objective} does not answer as a plain decoder"):
        export(folder.path, tmp_path / "llama", "llama")
    with pytest.raises(ValueError, match="no format named 'lama'; did you mean 'llama'"):
        export(folder.path, tmp_path / "llama", "lama")
    assert not (tmp_path / "llama").exists()


def test_nor_is_a_decoder_that_marks_first_tokens() -> None:
    run = preset.run("gpt", "smoke", 0).override([*SMALL, "decoder.mark_start=true"])
    with pytest.raises(ValueError, match=r"it cannot have decoder\.mark_start"):
        llama_config(build(run).decoder)


def test_nor_is_a_decoder_of_ones_own() -> None:
    class Shallow(GPT):
        name = "shallow"

        def decoder(self, config: DecoderConfig, vocab_size: int, max_length: int) -> Decoder:
            return super().decoder(replace(config, layers=1), vocab_size, max_length)

    check_plain(GPT())
    with pytest.raises(ValueError, match="shallow does not answer as a plain decoder"):
        check_plain(Shallow())


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
    return result.stdout


def test_the_commands(folder: RunDir, tmp_path: Path) -> None:
    """An exported model is measured as its run is, under a name of its own."""
    assert call("export", str(folder.path), str(tmp_path / "model")).strip().endswith("model")
    probe = ["probe", "--out", str(tmp_path / "runs")]
    model = ["--model", str(tmp_path / "model")]
    call("probe", str(folder.path), "next_token", "rank")
    assert "NextLat" in call(*probe, *model, "next_token", "rank")
    [path] = (tmp_path / "runs").glob(f"{folder.run().id}-*/records.jsonl")
    found, expected = read(path), read(folder.records)
    assert [(r.probe, r.value, r.training) for r in found] == [
        (r.probe, r.value, r.training) for r in expected
    ]
    assert found[0].run == path.parent.name != expected[0].run
    before = path.stat()
    call(*probe, *model, "rank")
    assert path.stat() == before
    with pytest.raises(ValueError, match="is a model of taxi: add --task taxi"):
        call(*probe, *model, "--task", "a5")
    with pytest.raises(ValueError, match="already fixes it"):
        call(*probe, *model, "--scale", "laptop")


def test_what_cannot_be_exported(folder: RunDir, tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"is .* a run folder"):
        export(tmp_path, tmp_path / "model")
    begun = RunDir.prepare(tmp_path, preset.run("gpt", "smoke", 0))
    with pytest.raises(RunDirError, match="holds no trained model"):
        export(begun.path, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    for taken in (begun.path, begun.run_json):
        with pytest.raises(ValueError, match="is not an empty folder: choose another"):
            export(folder.path, taken)


def change(config: dict, **changes: object) -> Callable[[Path], None]:
    return lambda path: (path / "config.json").write_text(json.dumps(config | changes)) and None


def swap(path: Path) -> None:
    """Sound weights of another model, and their digest."""
    import hashlib

    content = safetensors.torch.save({"weight": torch.zeros(2)})
    (path / "model.safetensors").write_bytes(content)
    config = json.loads((path / "config.json").read_text())
    config["sha256"] = hashlib.sha256(content).hexdigest()
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "model.safetensors").unlink(), r"model.safetensors does not exist: export"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x"), "model.safetensors is damaged"),
        (lambda p: (p / "config.json").unlink(), r"run.json does not exist: is .* a run folder"),
        (
            lambda p: (p / "config.json").write_text("{"),
            r"config.json is missing or damaged: export",
        ),
        (
            lambda p: (p / "config.json").write_text("[]"),
            r"config.json is missing or damaged: export",
        ),
        (change({"model_type": "gpt2"}), r"config.json is not of nextlat-bench; if .* Hugging"),
        (change({"format": "nextlat-bench", "schema": 2}), "has schema 2, this version reads 1"),
        (change({"format": "nextlat-bench", "schema": 1}), "it holds no run"),
        (change({"format": "nextlat-bench", "schema": 1, "run": {}}), "schema None"),
        (swap, "does not fit the run beside it"),
    ],
)
def test_damaged_and_foreign_folders(
    damage: Callable[[Path], object], message: str, folder: RunDir, tmp_path: Path
) -> None:
    out = export(folder.path, tmp_path / "model")
    damage(out)
    with pytest.raises(ValueError, match=message):
        load(out)
