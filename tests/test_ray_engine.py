"""What a job is given on a Ray cluster and brings back from it; on a real one: test_sweep.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextlat_bench import ray_engine
from nextlat_bench.job import Asked, How, Tick
from nextlat_bench.presets import a5
from nextlat_bench.run_dir import RunDir
from nextlat_bench.sweep import JobError, Local


@pytest.mark.parametrize(
    ("device", "has", "jobs", "expected"),
    [
        (None, {"CPU": 8.0}, None, ("cpu", {"num_cpus": 1}, 8)),
        (None, {"CPU": 8.0, "GPU": 2.0}, None, ("cuda", {"num_gpus": 1.0}, 2)),
        ("cuda", {"CPU": 8.0, "GPU": 2.0}, 8, ("cuda", {"num_gpus": 0.25}, 2)),
        ("cuda", {"CPU": 8.0, "GPU": 2.0}, 1, ("cuda", {"num_gpus": 1.0}, 2)),
        ("cpu", {"CPU": 8.0, "GPU": 2.0}, None, ("cpu", {"num_cpus": 1}, 8)),
    ],
)
def test_jobs_on_a_cluster_use_its_gpus(device: Any, has: Any, jobs: Any, expected: Any) -> None:
    """Ray hides them from a task that asks for none, or shows it all of them."""
    assert ray_engine.placed(device, has, jobs) == expected


def test_gpus_that_a_cluster_lacks_are_not_waited_for() -> None:
    with pytest.raises(ValueError, match="--device cuda: the Ray cluster has no GPU"):
        ray_engine.placed("cuda", {"CPU": 8.0}, None)


def test_a_job_that_fails_on_a_node_brings_its_error_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says where it is in the folder of runs, not in the node's own, which is gone."""

    class Failing(Local):
        def finish(self, folder: RunDir) -> Iterator[Tick]:
            path = folder.path / "error.txt"
            path.write_text("a\nb\n")
            yield Tick("training", 0, 1, "")
            raise JobError(f"b (all of it in {path})")

    monkeypatch.setattr(ray_engine, "Local", Failing)
    folder = RunDir.prepare(tmp_path, a5.run("gpt", "smoke", 0))
    names = [folder.path.name]
    parcel = ray_engine.pack(tmp_path, names, {})
    job = ray_engine.finish_there(names, parcel, How(), Asked())
    for _ in range(2):  # its tick, and what it left
        ray_engine.unpack(tmp_path, next(job)[1])
    with pytest.raises(JobError) as failed:
        next(job)
    assert str(failed.value) == f"b (all of it in {folder.path.name}/error.txt)"
    assert (folder.path / "error.txt").read_text() == "a\nb\n"
