"""The loop: exact resume, clear refusals, and nothing lost."""

import errno
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from real_runs import here, recipe
from small_models import ON_TAXI, tiny

from nextlat_bench import provenance
from nextlat_bench import train as train_module
from nextlat_bench.files import atomic_write
from nextlat_bench.model import Model, build
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError
from nextlat_bench.train import (
    DivergedError,
    Progress,
    fitting,
    restore_weights,
    train,
)
from nextlat_bench.workers import COLUMNS, Workers


def trained(run: Run, out: Path, **options: object) -> RunDir:
    folder = RunDir.prepare(out, run)
    train(run, folder, device="cpu", **options)  # type: ignore[arg-type]
    return folder


class StopTrainingError(Exception):
    pass


def stop_at(step: int):  # type: ignore[no-untyped-def]
    def progress(p: Progress) -> None:
        if p.step == step:
            raise StopTrainingError

    return progress


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["muon", "split_muon", "adamw"])
def test_resume_equals_an_uninterrupted_run_bit_for_bit(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    run = tiny(f"training.precision={precision}", f"training.optimizer={optimizer}")
    whole = trained(run, tmp_path / "whole")
    folder = RunDir.prepare(tmp_path / "parts", run)
    for step in (5, 10):  # the second logs a row that no checkpoint covers
        with pytest.raises(StopTrainingError):
            train(run, folder, device="cpu", progress=stop_at(step), seconds_between_checkpoints=0)
    train(run, folder, device="cpu", seconds_between_checkpoints=0)
    assert folder.model.read_bytes() == whole.model.read_bytes()
    timeless = [
        [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in d.metric_rows()]
        for d in (whole, folder)
    ]
    assert timeless[0] == timeless[1]
    assert [row["step"] for row in timeless[0]] == [10, 20, 24]


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    folder = trained(tiny(), tmp_path)
    before = folder.model.stat().st_mtime_ns
    trained(tiny(), tmp_path, progress=stop_at(1))
    assert folder.model.stat().st_mtime_ns == before


def test_seeds_differ_and_repeat(tmp_path: Path) -> None:
    first, again = (trained(tiny(), tmp_path / n).model.read_bytes() for n in ("a", "b"))
    assert first == again
    assert trained(tiny(seed=1), tmp_path).model.read_bytes() != first


def test_each_step_is_taken_at_its_rate_and_with_gradients_as_short_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All optimizers' rates: up in two steps, full for one, down in three."""
    run = tiny("training.steps=6", "training.warmup_steps=2", "training.decay_fraction=0.5",
               "training.final_fraction=0", "training.decay_power=1", "training.clip=0.01",
               "training.optimizer=muon")  # fmt: skip
    found, step = [], Workers.update

    def spied(self: Workers, optimizers: list[torch.optim.Optimizer], rate: float) -> None:
        step(self, optimizers, rate)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        rates = {group["lr"] / group["base_lr"] for group in groups}
        found.append((rates, float(torch.nn.utils.get_total_norm(gradients))))

    monkeypatch.setattr(Workers, "update", spied)
    [row] = trained(run, tmp_path).metric_rows()
    rates, norms = zip(*found, strict=True)
    for each, rate in zip(rates, (1 / 2, 1, 1, 2 / 3, 1 / 3, 0), strict=True):
        assert (min(each), max(each)) == pytest.approx((rate, rate))
    assert 0 < max(norms) < 0.0101 < row["gradient_norm"]


def test_micro_batches_side_by_side_equal_one_after_another(tmp_path: Path) -> None:
    run = tiny("training.micro_batches=2", "training.precision=fp32")
    threads = torch.get_num_threads()
    side_by_side = trained(run, tmp_path / "a", threads=2)
    one_by_one = trained(run, tmp_path / "b", threads=1)
    torch.set_num_threads(threads)
    assert side_by_side.model.read_bytes() == one_by_one.model.read_bytes()


@pytest.mark.parametrize("objective", ON_TAXI)
def test_loss_falls(tmp_path: Path, objective: str) -> None:
    run = tiny("training.steps=60", "training.warmup_steps=5", objective=objective)
    rows = trained(run, tmp_path).metric_rows()
    assert rows[-1]["next_token"] < 0.8 * rows[0]["next_token"]
    assert all(row["latent_std"] > 0 for row in rows)
    assert all(row.keys() > {*COLUMNS} for row in rows)  # beside the parts of its loss


def test_divergence_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    folder = RunDir.prepare(tmp_path, run)
    clip, calls = train_module.clip, []

    def poisoned(model: Model, largest: float | None) -> float:
        calls.append(largest)
        if len(calls) == 10:
            model.decoder.embedding.weight.data.fill_(float("nan"))
        return clip(model, largest)

    monkeypatch.setattr(train_module, "clip", poisoned)
    with pytest.raises(DivergedError, match=r"became nan at step 10: lower .*step 9, is in"):
        train(run, folder, device="cpu", seconds_between_checkpoints=0)
    monkeypatch.undo()
    step, files = folder.load_checkpoint()  # type: ignore[misc]
    assert step == 9
    weights = safetensors.torch.load(files["model.safetensors"])
    assert all(w.isfinite().all() for w in weights.values())


def interrupted(tmp_path: Path) -> tuple[Run, RunDir]:
    run = tiny()
    folder = RunDir.prepare(tmp_path, run)
    with pytest.raises(StopTrainingError):
        train(run, folder, device="cpu", progress=stop_at(7), seconds_between_checkpoints=0)
    assert [p.name for p in folder.saved()] == ["00000005", "00000006"]
    return run, folder


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(
    tmp_path: Path, name: str, damage: str
) -> None:
    run, folder = interrupted(tmp_path)
    path = folder.saved()[-1] / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0x80
        path.write_bytes(content)
    with pytest.raises(RunDirError, match=r"checkpoint .* is (incomplete|damaged): .*from step 5"):
        train(run, folder, device="cpu")


def test_missing_checkpoints_never_mean_a_silent_fresh_start(tmp_path: Path) -> None:
    import shutil

    run, folder = interrupted(tmp_path)
    shutil.rmtree(folder.checkpoints)
    with pytest.raises(RunDirError, match="holds no checkpoint: restore"):
        train(run, folder, device="cpu")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing: restore it, or delete"),
        (lambda path: path.write_text('{"precision": "bf17"}'), "damaged .precision = 'bf17'"),
    ],
)
def test_training_never_goes_on_in_a_precision_that_nobody_knows(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    run, folder = interrupted(tmp_path)
    damage(folder.provenance)
    with pytest.raises(RunDirError, match=rf"provenance\.json .*{said}"):
        train(run, folder, device="cpu")


def test_checkpoints_that_a_kill_left_after_the_last_step_are_removed(tmp_path: Path) -> None:
    run = tiny("training.steps=2")
    folder = trained(run, tmp_path)
    folder.save_checkpoint(1, {"state.pt": b"of a training that is over"})
    train(run, folder, device="cpu")
    assert not folder.checkpoints.exists()


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    folder = RunDir.prepare(tmp_path, tiny())
    with (
        folder.lock(),
        pytest.raises(RunDirError, match="in use by another process"),
        RunDir(folder.path).lock(),
    ):
        pass


def test_a_disk_that_keeps_no_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some that machines share."""

    def refused(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with (
        pytest.raises(RunDirError, match=r"No locks available.* with --out"),
        RunDir(tmp_path).lock(),
    ):
        pass


def test_atomic_write_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with pytest.raises(TypeError):
        atomic_write(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    folder = trained(tiny(), tmp_path)
    content = bytearray(folder.model.read_bytes())
    content[-1] ^= 1
    folder.model.write_bytes(content)
    with pytest.raises(RunDirError, match="is damaged"):
        folder.trained_model()


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = RunDir.prepare(tmp_path, tiny())
    value = json.loads(folder.run_json.read_text())
    atomic_write(folder.run_json, json.dumps(value | {"seed": 5}).encode())
    with pytest.raises(RunDirError, match="describes another run"):
        RunDir.prepare(tmp_path, tiny())
    atomic_write(folder.run_json, b"{")
    with pytest.raises(RunDirError, match="is damaged"):
        RunDir.prepare(tmp_path, tiny())


def test_checkpoints_take_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_module.rest_after(0.1, 45) == 45
    assert train_module.rest_after(30, 45) == 600
    assert train_module.rest_after(30, 0) == 0  # after every step
    asked: list[float] = []

    def for_ever(took: float, seconds: float) -> float:
        asked.append(seconds)
        return 1e9

    monkeypatch.setattr(train_module, "rest_after", for_ever)
    trained(tiny("training.steps=4"), tmp_path, seconds_between_checkpoints=1e-9)
    assert asked == [1e-9]  # of the first of them


def test_a_checkpoint_that_took_long_once_is_not_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hung for ten minutes would cost the next three hours their checkpoints."""
    seconds = count()
    writing = iter([1, 1, 600, 1, 600, 600, 1])  # the first is of step 0
    asked: list[float] = []

    def save(*checkpoint: object) -> None:
        for _ in range(next(writing)):
            next(seconds)

    monkeypatch.setattr(RunDir, "save_checkpoint", save)
    monkeypatch.setattr(train_module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(train_module, "rest_after", lambda took, _: asked.append(took) or 0.0)
    trained(tiny("training.steps=6"), tmp_path, seconds_between_checkpoints=0)
    assert asked == [2, 2, 2, 2, 601, 2]


def test_every_block_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of heads, too."""
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(provenance, "check_compiler", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    run = tiny("objective.horizon=2", "training.steps=1", objective="mtp")
    trained(run, tmp_path, compiled=True)
    assert len(compiled) == run.decoder.layers + 2


def test_build_is_a_function_of_the_seed() -> None:
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first, second, other = build(tiny()), build(tiny()), build(tiny(seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (m.decoder.embedding.weight.detach().numpy() for m in (first, second, other))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.slow
def test_compiled_is_the_same_training_and_says_so(tmp_path: Path) -> None:
    run = tiny("training.precision=fp32")
    plain = trained(run, tmp_path / "plain")
    with pytest.raises(StopTrainingError):
        trained(run, tmp_path / "compiled", compiled=True, progress=stop_at(10))
    fused = trained(run, tmp_path / "compiled")  # a resumed run goes on as it was begun
    losses = [[row["loss"] for row in folder.metric_rows()] for folder in (plain, fused)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    facts = [json.loads(folder.provenance.read_text())["compiled"] for folder in (plain, fused)]
    assert facts == [False, True]


def test_provenance_says_where_and_with_what(tmp_path: Path) -> None:
    facts = json.loads(trained(tiny(), tmp_path).provenance.read_text())
    assert facts["precision"] in ("bf16", "fp32")
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["threads"] >= 1
    assert facts["device"]
    assert set(facts["rejected"]) == {"train", "validation", "test"}
    assert 0 < facts["rejected"]["train"] < facts["rejected"]["test"] < 1


def test_weights_of_another_shape_are_told_in_one_line(tmp_path: Path) -> None:
    """As where the code of somebody's own objective changed between a stop and the next start."""
    narrow, wide = (build(tiny(f"decoder.width={width}")) for width in (16, 32))
    files = {"model.safetensors": safetensors.torch.save(narrow.state_dict())}
    folder = RunDir(tmp_path / "mine")
    with (
        pytest.raises(RunDirError, match=r"(?s)mine does not fit .*size mismatch"),
        fitting(folder),
    ):
        restore_weights((3, files), wide)


@pytest.mark.parametrize("native", [True, False])
def test_bf16_that_is_emulated_is_said_to_be(
    native: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nextlat_bench.device.native_bf16", lambda device: native)
    settings = ("training.precision=bf16", "training.steps=2")
    done = here(*recipe("a5", tmp_path, *settings, objective="gpt"), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert ("bf16 is emulated by this cpu" in done.stdout) == (not native)


def test_a_row_logged_at_the_checkpoint_is_kept(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    folder.metrics.write_text("".join(f'{{"step": {step}}}\n' for step in (10, 20, 30)))
    folder.rewind_metrics(20)
    assert [row["step"] for row in folder.metric_rows()] == [10, 20]


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    folder = RunDir.prepare(tmp_path, tiny())
    checkpoint = folder.checkpoints / ".00000003.17.tmp"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.pt").touch()
    model, begun = (folder.path / f".{name}.17.tmp" for name in ("model.safetensors", "run.json"))
    model.touch()
    begun.touch()
    with folder.lock():
        assert not checkpoint.exists()
        assert not model.exists()
        assert begun.exists()  # somebody else's, who has not asked for the lock yet


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    done = here(*recipe("a5", tmp_path / "r\udcff", "training.steps=2", objective="gpt"))
    assert done.returncode == 0, done.stderr


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = here("list", "tasks")
    assert done.returncode == 2
    assert done.stderr.startswith("nextlat-bench: the working directory has been removed")
