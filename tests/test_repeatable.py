"""The same seed gives the same bytes: in another process, hash seed, locale and timezone."""

from pathlib import Path

import pytest
from real_runs import begin, ended, outcome, recipe

from nextlat_bench import registry

WORLDS = (
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"},
    {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONUTF8": "0"},
)
QUICK = ("nextlat", "bst")


@pytest.mark.parametrize(
    "objective",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in registry.names("objectives")
    ],
)
def test_the_same_seed_gives_the_same_bytes(objective: str, tmp_path: Path) -> None:
    left = []
    for number, world in enumerate(WORLDS):
        out = tmp_path / str(number)
        command = recipe("path_star", out, "training.steps=12", objective=objective)
        process = begin(command, **world)
        _, errors = ended(process)
        assert process.returncode == 0, errors
        left.append(outcome(out, objective))
    assert left[0] == left[1]
