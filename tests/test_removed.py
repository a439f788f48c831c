"""Run folders that are removed under the hands of a process at work."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_models import tiny

from nextlat_bench.job import Asked, How, Tick, finish, measure_known
from nextlat_bench.run_dir import RunDir, RunDirError


def test_a_folder_that_another_process_began_anew_is_left_alone(tmp_path: Path) -> None:
    """Removed with its lock under the hands of the first, whose rows it would get."""
    run = tiny("training.steps=20")
    folder = RunDir.prepare(tmp_path, run)
    with ExitStack() as other:

        def listen(tick: Tick) -> None:
            if tick.done == 9:
                shutil.rmtree(folder.path)
                other.enter_context(RunDir.prepare(tmp_path, run).lock())

        with pytest.raises(RunDirError, match=r"\.lock was removed while a process worked there"):
            finish(folder, How("cpu", 1), Asked(), listen)
        assert {path.name for path in folder.path.iterdir()} == {"run.json", ".lock"}


def test_a_folder_that_is_removed_while_it_is_probed_stays_removed(tmp_path: Path) -> None:
    def listen(tick: Tick) -> None:
        shutil.rmtree(next(tmp_path.iterdir()))

    with pytest.raises(FileNotFoundError, match=r"records\.jsonl"):
        measure_known("oracle", tiny(), tmp_path, Asked(probes=["trajectories"]), listen)
    assert not list(tmp_path.iterdir())
