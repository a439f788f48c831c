"""A task, an objective or a probe of somebody's own that errs: a line names it and the place."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_runs import call, here, recipe

from nextlat_bench import registry

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
MEASURE = (
    "from nextlat_bench.probes.next_token import Measurement, NextToken",
    *PROBE[1:3],
    "found = [Measurement('legal_top1', 0.5, 0.4, 0.6, 10)]",
)
INIT = (*OBJECTIVE[:2], "init(self, config, end=None)", "module = super().init(config, end)")
LOGITS = (
    *OBJECTIVE[:2],
    "logits(self, decoder, extra, hidden, tokens)",
    "logits = super().logits(decoder, extra, hidden, tokens)",
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
    "a part is no tensor": (
        OBJECTIVE,
        "return Losses(losses.total, {'own': 0.5}, losses.hidden)",
        "errs.loss gave for own what is no tensor of one number",
    ),
    "a total of two": (
        OBJECTIVE,
        "return Losses(losses.total.repeat(2), losses.parts, losses.hidden)",
        "errs.loss gave for total what is no tensor of one number",
    ),
    "a column's name": (
        OBJECTIVE,
        "return Losses(losses.total, {'step': losses.total.detach()}, losses.hidden)",
        "errs.loss gave a part called 'step', which the log has already",
    ),
    "no hidden states": (
        OBJECTIVE,
        "return Losses(losses.total, losses.parts, None)",
        "errs.loss gave a NoneType as its hidden states",
    ),
    "no module": (INIT, "return []", "errs.init gave a list: expected a torch.nn.Module"),
    "no probabilities": (
        LOGITS,
        "return logits * float('nan')",
        "errs.logits gave what are no probabilities",
    ),
    "one logit fewer": (
        LOGITS,
        "return logits[..., 1:]",
        "errs.logits gave 5 a position: expected 6",
    ),
    "fewer rows": (
        TASK,
        "return batch if n == 1 else super().sample(split, start, n - 1)",
        "errs.sample gave 15 rows of training examples: expected 16",
    ),
    "no whole numbers": (
        TASK,
        "return replace(batch, tokens=batch.tokens + 0.5)",
        "errs.sample gave tokens that are no whole numbers",
    ),
    "nothing to learn": (
        TASK,
        "return replace(batch, targets=batch.targets * 0 - 1)",
        "errs.sample gave no scored target in 16 examples",
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
    "no measurements": (
        MEASURE,
        "return None",
        "probe errs gave a NoneType: expected Measurements",
    ),
    "a bare number": (MEASURE, "return [0.5]", "probe errs gave a float: expected a Measurement"),
    "twice the same": (
        MEASURE,
        "return [*found, found[0]]",
        "probe errs gave 'legal_top1' twice",
    ),
    "no metrics": (
        MEASURE,
        "return found\n\n    metrics: ClassVar = ()",
        "errs_{}:Errs has no metrics: expected a tuple of nextlat_bench.probes._core.Metric",
    ),
    "the name of a run's file": (
        MEASURE,
        "return found\n\n    name: ClassVar = 'trained'",
        "errs_{}:Errs has the name 'trained', which a file of a run has: choose another",
    ),
    "a task with a table's name": (
        TASK,
        "return batch\n\n    name: ClassVar = 'states'",
        "errs_{}:Errs has the name 'states', which another table has: choose another",
    ),
    "an exhibit that is none": (
        MEASURE,
        "return found\n\n    def exhibit(self, subject, task, rng):\n        return [1]",
        "probe errs: its exhibit is a list: expected a dict",
    ),
    "an exhibit that JSON lacks": (
        MEASURE,
        "return found\n\n    def exhibit(self, subject, task, rng):\n        return {'a': rng}",
        "probe errs: its exhibit is no JSON (Object of type Generator",
    ),
    "not a number": (
        MEASURE,
        "return [replace(found[0], value=float('nan'))]",
        "probe errs: legal_top1 is nan over 10 trials: expected a number, or no trials",
    ),
    "more than all": (
        MEASURE,
        "return [replace(found[0], value=17.0)]",
        "probe errs: legal_top1 is 17.0, and a share: expected 0 to 1",
    ),
    "an interval upside down": (
        MEASURE,
        "return [replace(found[0], low=0.6, high=0.4)]",
        "probe errs: legal_top1 is 0.5 from 0.6 to 0.4: expected low <= high",
    ),
    "never a number": (
        OBJECTIVE,
        "return Losses(losses.total * float('nan'), losses.parts, losses.hidden)",
        "the loss is nan at step 1, before any weight has changed",
    ),
    "it leaves": (TASK, "raise SystemExit(0)", "in sample: SystemExit: 0"),
    "a wrong value": (PROBE, "a, b = 1, 2, 3", "in measure: ValueError: too many values to unpack"),
    "what the suite refuses": (
        TASK,
        "return super().sample('tests', start, n)",
        "nextlat-bench: split = 'tests': expected one of train, validation, test\n",
    ),
    "probe's own error": (PROBE, "yield size.bits", "line 12, in measure: AttributeError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_says_where(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, body, expected = FAULTS[fault]
    *parts, first = kind
    number = list(FAULTS).index(fault)
    module, expected = f"errs_{number}", expected.replace("{}", str(number))
    (tmp_path / f"{module}.py").write_text(OWN.format(*parts, f"{first}\n        {body}"))
    monkeypatch.syspath_prepend(str(tmp_path))
    dotted, out = f"{module}:Errs", tmp_path / "runs"
    if kind[1] == PROBE[1]:
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


def test_a_parameter_without_end_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, method = MEASURE[0], MEASURE[2]
    body = "print('measured')\n        return [Measurement('legal_top1', 0.5, 0.4, 0.6, 10)]"
    own = OWN.format(base, "NextToken", method, f"{body}\n\n    most: float = float('inf')")
    (tmp_path / "endless.py").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = str(tmp_path / "runs")
    for said in (1, 0):
        asked = ["probe", "uniform", "endless:Errs", "--task", "a5", "--scale", "smoke"]
        assert call([*asked, "--out", out]) == 0
        assert capsys.readouterr().out.count("measured\n") == said


def test_a_type_for_checkers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OWN.format(
        "from nextlat_bench.tasks.a5 import A5", "A5", "x(self)", "pass\n    u: 'No' = 1"
    )
    (tmp_path / "unresolved.py").write_text(own)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = registry.load("tasks", "unresolved:Errs")
    with pytest.raises(ValueError, match="Errs: name 'No' is not defined; import the types"):
        registry.hints(plugin)


@dataclass(frozen=True)
class Odd:
    kinds: Any


@pytest.mark.parametrize("value", [frozenset("a"), np.int64(1), np.zeros(2), b"x", Path("x")])
def test_a_field_that_json_lacks(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Odd\.kinds = .*: no JSON can hold it; use numbers"):
        registry.parameters(Odd(value))
    assert registry.parameters(Odd([1, None, "x"])) == {"kinds": [1, None, "x"]}


def test_a_task_that_can_be_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "from nextlat_bench.tasks._core import Task", "Task", "x(self)", "pass"
    (tmp_path / "changeable.py").write_text(OWN.format(*given).replace("frozen=True, ", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"needs the decorator @dataclass\(frozen=True"):
        registry.load("tasks", "changeable:Errs")


def test_sample_looks_at_what_it_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *parts, first = TASK
    body = f"{first}\n        return replace(batch, tokens=batch.tokens + 60)"
    (tmp_path / "beyond.py").write_text(OWN.format(*parts, body))
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "drawn.npz"
    assert call(["sample", "beyond:Errs", "-n", "2", "--out", str(out)]) == 2
    assert "errs.sample gave tokens from 60" in capsys.readouterr().err
    assert not out.exists()


LOUD = """os.system("echo aside")
        if self.fails:
            os.write(2, b"\\xff\\n")
            raise KeyError("on purpose")
        return losses

    fails: bool = False"""


def test_a_sweep_of_what_speaks_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that it starts print among the ticks, and bytes that are no text are no reason; what
    lies in the current folder hides no library from the jobs."""
    imported, *parts, first = OBJECTIVE
    own = OWN.format(f"import os\n{imported}", *parts, f"{first}\n        {LOUD}")
    (tmp_path / "aside.py").write_text(own)
    (tmp_path / "random.py").write_text("raise SystemExit('of the current folder')")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = ["--set", "objective.fails=false,true", "--set", "training.steps=2"]
    asked = ["sweep", "a5", "--scale", "smoke", "--objective", "aside:Errs", "--seeds", "1"]
    few = ["--probes", "teacher_forced", "--out", "runs"]
    done = here(*asked, *settings, *few, cwd=tmp_path)
    assert "2 cells: 1 done, 1 failed" in done.stdout
    [line] = done.stderr.splitlines()
    assert re.search(r"aside\.py, line \d+, in loss: KeyError: 'on purpose'", line), line
    sys.modules.pop("aside")
