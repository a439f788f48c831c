"""A task, an objective or a probe of somebody's own that errs: a line names it and the place."""

import sys
from pathlib import Path

import pytest
from real_runs import call, recipe

OBJECTIVE = """
from dataclasses import dataclass
from typing import ClassVar
from nextlat_bench.objectives._core import Losses
from nextlat_bench.objectives.gpt import GPT

@dataclass(frozen=True, kw_only=True)
class {kind}(GPT):
    name: ClassVar[str] = "errs"

    def loss(self, decoder, extra, batch):
        losses = super().loss(decoder, extra, batch)
        {body}
"""
TASK = """
from dataclasses import dataclass, replace
from typing import ClassVar
from nextlat_bench.tasks.a5 import A5

@dataclass(frozen=True, kw_only=True)
class {kind}(A5):
    name: ClassVar[str] = "errs"

    def sample(self, split, start, n):
        batch = super().sample(split, start, n)
        {body}
"""
PROBE = """
from dataclasses import dataclass
from typing import ClassVar
from nextlat_bench.probes._core import Metric, Probe

@dataclass(frozen=True, kw_only=True)
class {kind}(Probe):
    name: ClassVar[str] = "errs"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("number", True, "count", "a number"),)

    def measure(self, subject, task, rng):
        {body}
"""
FAULTS = {
    "objective's own error": (OBJECTIVE, "return {}['weight']", "line 13, in loss: KeyError"),
    "an error of what it calls": (OBJECTIVE, "return losses.total @ 1", "line 13, in loss: Type"),
    "no losses": (OBJECTIVE, "return losses.total", "errs.loss gave a Tensor: expected Losses"),
    "no gradient": (
        OBJECTIVE,
        "return Losses(losses.total.detach(), losses.parts, losses.hidden)",
        "errs.loss gave a total that no weight changes",
    ),
    "no batch": (
        TASK,
        "return batch if n == 1 else batch.tokens",
        "errs.sample gave a ndarray: expected a Batch",
    ),
    "other shapes": (
        TASK,
        "return replace(batch, targets=batch.targets[:, 1:])",
        "errs.sample gave arrays of shapes {'tokens': (16, ",
    ),
    "no such token": (
        TASK,
        "return replace(batch, tokens=batch.tokens + 60)",
        "errs.sample gave tokens from 60 to 119: expected 0 to 59, by its vocabulary",
    ),
    "no such answer": (
        TASK,
        "return replace(batch, targets=batch.targets - 60)",
        "errs.sample gave targets from -60 to -1: expected -1 to 59",
    ),
    "probe's own error": (PROBE, "yield subject.weights", "line 12, in measure: AttributeError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_says_where(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, body, expected = FAULTS[fault]
    module = f"errs_{list(FAULTS).index(fault)}"
    (tmp_path / f"{module}.py").write_text(source.format(kind="Errs", body=body))
    monkeypatch.syspath_prepend(str(tmp_path))
    dotted, out = f"{module}:Errs", tmp_path / "runs"
    if source == PROBE:
        asked = ["probe", "uniform", dotted, "--task", "a5", "--scale", "smoke", "--out", str(out)]
    elif source == TASK:
        asked = recipe(dotted, out, objective="gpt")
    else:
        asked = recipe("a5", out, objective=dotted)
    assert call(asked) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.startswith("nextlat-bench: ")
    assert said.count("\n") == 1
    monkeypatch.setenv("NEXTLAT_BENCH_TRACEBACK", "1")
    if "line " in expected:
        assert str(tmp_path / f"{module}.py") in said
        with pytest.raises((KeyError, TypeError, AttributeError)):
            call(asked)
    sys.modules.pop(module)
