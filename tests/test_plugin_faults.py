"""A task, an objective or a probe of somebody's own that errs: a line names it and the place."""

import sys
from pathlib import Path

import pytest
from real_runs import call, recipe

OWN = """
from dataclasses import dataclass, replace
from typing import ClassVar
{}

@dataclass(frozen=True, kw_only=True)
class Errs({}):
    name: ClassVar[str] = "errs"

    def {}:
        {}
"""
# what is imported, the base, the method and what is at hand in it
OBJECTIVE = (
    "from nextlat_bench.objectives.gpt import GPT, Losses",
    "GPT",
    "loss(self, decoder, extra, batch)",
    "losses = super().loss(decoder, extra, batch)",
)
TASK = (
    "from nextlat_bench.tasks.a5 import A5",
    "A5",
    "sample(self, split, start, n)",
    "batch = super().sample(split, start, n)",
)
PROBE = (
    "from nextlat_bench.probes.next_token import NextToken",
    "NextToken",
    "measure(self, subject, task, rng)",
    "size = subject.vocab_size",
)
FAULTS = {
    "objective's own error": (OBJECTIVE, "return {}['weight']", "line 12, in loss: KeyError"),
    "an error of what it calls": (OBJECTIVE, "return losses.total @ 1", "line 12, in loss: Type"),
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
    "probe's own error": (PROBE, "yield size.bits", "line 12, in measure: AttributeError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_says_where(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, body, expected = FAULTS[fault]
    *parts, first = kind
    module = f"errs_{list(FAULTS).index(fault)}"
    (tmp_path / f"{module}.py").write_text(OWN.format(*parts, f"{first}\n        {body}"))
    monkeypatch.syspath_prepend(str(tmp_path))
    dotted, out = f"{module}:Errs", tmp_path / "runs"
    if kind == PROBE:
        asked = ["probe", "uniform", dotted, "--task", "a5", "--scale", "smoke", "--out", str(out)]
    elif kind == TASK:
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
