"""What Windows lacks, taken away: flock, for which it has locks of its own, and sysconf."""

import fcntl
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nextlat_bench.files import take_lock
from nextlat_bench.report.facts import brief
from nextlat_bench.run_dir import InUseError, RunDir


class Locks(ModuleType):
    """msvcrt's, as far as this system's can stand in for them."""

    LK_NBLCK = 2

    def locking(self, number: int, mode: int, size: int) -> None:
        assert (mode, size) == (self.LK_NBLCK, 1)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Locks("msvcrt"))


@pytest.mark.usefixtures("windows")
def test_a_run_folder_is_kept_from_others(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    with folder.lock():
        assert folder.in_use
        with pytest.raises(InUseError, match="is in use by another process"), folder.lock():
            pass
    assert not folder.in_use
    with folder.lock(), (tmp_path / "other").open("w") as other:
        take_lock(other)


def test_a_machine_that_does_not_say_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from nextlat_bench.plan import ASSUMED_MEMORY, memory

    assert memory("cpu") > 10**9
    monkeypatch.delattr(os, "sysconf")
    assert memory("cpu") == ASSUMED_MEMORY


@pytest.mark.parametrize("path", [r"C:\maps\cairo.csv", "C:/maps/cairo.csv", r".\cairo.csv"])
def test_tables_name_a_file_without_its_folder(path: str) -> None:
    assert brief(path) == "cairo.csv"
    assert brief("hf:maps/cairo.csv") == "hf:maps/cairo.csv"  # no file
