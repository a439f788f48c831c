"""Where and with what a run is made is settled once, and holds when it goes on."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import tiny

from nextlat_bench import device, provenance
from nextlat_bench.provenance import settle_provenance
from nextlat_bench.run_dir import RunDir, RunDirError, read_json


@pytest.mark.parametrize("asked", ["auto", "bf16"])
def test_what_began_in_bf16_goes_on_in_it_where_it_can(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is emulated, only for who asked for it."""
    run = tiny(f"training.precision={asked}")
    folder = RunDir.prepare(tmp_path, run)

    def settled(native: bool, resumed: bool) -> dict[str, Any]:
        for module in (device, provenance):
            monkeypatch.setattr(module, "native_bf16", lambda device: native)
        return settle_provenance(run, folder, "cpu", False, False, resumed)

    begun = settled(native=True, resumed=False)
    assert begun["precision"] == "bf16"
    assert settled(native=True, resumed=True) == begun
    if asked == "bf16":
        assert settled(native=False, resumed=True) == begun
    else:
        with pytest.raises(RunDirError, match="was begun in bf16, which cpu here lacks"):
            settled(native=False, resumed=True)


def test_a_commit_is_of_the_suite_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed in an environment inside somebody's own repository, it is no part of that."""

    def git(*words: str) -> str:
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / ".gitignore").write_text(".venv\n")
    for file in (installed := tmp_path / ".venv/provenance.py", checkout := tmp_path / "own.py"):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "mine")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.commit() is None
    monkeypatch.setattr(provenance, "__file__", str(checkout))
    assert provenance.commit() == git("rev-parse", "HEAD")


def test_the_threads_are_those_asked_for(tmp_path: Path) -> None:
    run = tiny()
    folder = RunDir.prepare(tmp_path, run)
    for threads, expected in ((None, torch.get_num_threads()), (7, 7)):
        settle_provenance(run, folder, "cpu", False, True, False, threads)
        facts = read_json(folder.provenance)
        assert facts["threads"] == expected
        assert (facts["compiled"], facts["sharded"], facts["processes"]) == (False, True, 1)
        assert facts["run_sha256"] == folder.run_digest


def test_what_cannot_be_compiled_is_not_begun_nor_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(device: str) -> None:
        raise ValueError(f"--compile needs a compiler for the {device}")

    run = tiny()
    folder = RunDir.prepare(tmp_path, run)
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "check_compiler", lacking)
        with pytest.raises(ValueError, match="needs a compiler for the cpu"):
            settle_provenance(run, folder, "cpu", True, False, False)
    assert not folder.provenance.exists()
    monkeypatch.setattr(provenance, "check_compiler", lambda device: None)
    settle_provenance(run, folder, "cpu", True, False, False)
    monkeypatch.setattr(provenance, "check_compiler", lacking)
    with pytest.raises(ValueError, match="needs a compiler for the cpu"):
        settle_provenance(run, folder, "cpu", False, False, True)
