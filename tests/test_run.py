"""Runs as values: identity, JSON, overrides and clear refusals."""

import dataclasses
import json
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
from small_models import ON_TAXI

from nextlat_bench import registry
from nextlat_bench.objectives._core import check_horizon
from nextlat_bench.presets import taxi as preset
from nextlat_bench.run import SCALES, DecoderConfig, Run, Training
from nextlat_bench.tasks.taxi import Taxi


@pytest.fixture(scope="module")
def run() -> Run:
    return preset.run("nextlat", "smoke", 0)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("objective", ON_TAXI)
def test_json_round_trip(objective: str, scale: str) -> None:
    made = preset.run(objective, scale, 3)
    again = Run.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.id == made.id
    assert made.id.startswith(f"taxi-{objective}-{scale}-s3-")


def test_settings_count_together(run: Run) -> None:
    """What is valid only together may come in any order."""
    both = ["decoder.heads=6", "decoder.width=132"]
    for settings in (both, both[::-1]):
        decoder = run.override(settings).decoder
        assert (decoder.heads, decoder.width) == (6, 132)
    assert run.override(["training.steps=3", "training.steps=4"]).training.steps == 4
    with pytest.raises(ValueError, match="heads"):
        run.override(both[:1])


def test_id_is_by_content(run: Run) -> None:
    assert preset.run("nextlat", "smoke", 0).id == run.id
    changed = [
        dataclasses.replace(run, seed=1),
        run.override(["training.steps=7"]),
        run.override(["objective.horizon=2"]),
        run.override(["task.max_nodes=9"]),
        run.override(["decoder.layers=1"]),
    ]
    assert len({run.id, *(r.id for r in changed)}) == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.steps", "expected PART.FIELD=VALUE"),
        ("steps=3", "expected PART.FIELD=VALUE"),
        ("training.step=3", "did you mean 'steps'"),
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.steps=many", "training.steps=many: expected int"),
        ("training.steps=2.5e0", "training.steps=2.5e0: expected int"),
        ("training.steps=inf", "training.steps=inf: expected int"),
        ("training.steps=0", "Training.steps = 0: expected a whole number from 1 to"),
        ("training.precision=fp8", "Training.precision = 'fp8': expected one of auto, bf16, fp32"),
        ("training.clip=-1", "Training.clip = -1.0: expected a positive number"),
        ("training.row_length=5", "expected at least"),
        ("training.learning_rate=nan", "Training.learning_rate = nan"),
        ("decoder.width=33", "expected a multiple of twice the number of heads"),
        ("decoder.zero_init_residual=maybe", "expected bool"),
        ("objective.horizon=0", "NextLat.horizon = 0"),
    ],
)
def test_bad_settings_are_one_clear_line(run: Run, setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        run.override([setting])
    assert "\n" not in str(error.value)


def test_settings_are_typed(run: Run) -> None:
    changed = run.override(
        ["training.clip=none", "decoder.zero_init_residual=false", "training.learning_rate=1"]
    )
    assert changed.training.clip is None
    assert changed.decoder.zero_init_residual is False
    assert changed.training.learning_rate == 1.0
    assert {run.override([f"training.steps={s}"]).id for s in ("2e3", "2_000")} == {
        run.override(["training.steps=2000"]).id
    }


def test_newer_schema_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="schema 99"):
        Run.from_json(run.to_json() | {"schema": 99})


def test_damaged_run_json_is_refused(run: Run) -> None:
    value = run.to_json()
    del value["training"]
    with pytest.raises(ValueError, match="training"):
        Run.from_json(value)
    value = run.to_json()
    value["decoder"]["depth"] = 3
    with pytest.raises(ValueError, match="depth"):
        Run.from_json(value)


def test_rate_rises_holds_and_falls() -> None:
    training = Training(
        steps=100, examples=1, warmup_steps=10, decay_fraction=0.4, final_fraction=0.05
    )
    rates = [training.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:60] == [1.0] * 51
    assert all(b < a for a, b in pairwise(rates[60:]))
    assert rates[-1] == pytest.approx(0.05)
    assert {Training(steps=5, examples=1).rate(step) for step in range(5)} == {1.0}
    most = Training(steps=100, examples=1, decay_fraction=0.29)  # of 100 a hair below 29
    assert most.rate(70) == 1.0 > most.rate(71)
    square = dataclasses.replace(training, decay_power=2.0)
    halfway = 0.05 + 0.95 * 0.5**2  # after 20 of the 40 steps of decay
    assert square.rate(79) == pytest.approx(halfway)
    assert square.rate(59) == 1.0
    assert square.rate(99) == pytest.approx(0.05)


def test_a_later_field_at_its_default_changes_no_id() -> None:
    run = preset.run("gpt", "smoke")
    earlier = dataclasses.asdict(run.training)
    del earlier["decay_power"]
    assert run.to_json()["training"] == earlier
    square = run.override(["training.decay_power=2"])
    assert square.to_json()["training"]["decay_power"] == 2.0
    assert Run.from_json(square.to_json()) == square != run == Run.from_json(run.to_json())
    assert square.id != run.id


@pytest.mark.parametrize("field", ["layers", "heads", "width"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_decoder_refuses(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="DecoderConfig"):
        DecoderConfig(**{field: value})  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graded(Taxi):
    grades: tuple[int, ...] = (1, 2)


def test_tuples_come_back_as_tuples(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has lists alone, which no cache takes."""
    monkeypatch.setattr(registry, "load", lambda kind, name: Graded)
    value = {"name": "graded", "parameters": {"grades": [3, 4], "radius": 500.0}}
    assert hash(registry.from_json("tasks", value)) == hash(Graded(grades=(3, 4), radius=500.0))


def test_the_farthest_horizon_is_the_last_token() -> None:
    task = SimpleNamespace(name="short", max_length=8)
    check_horizon(7, task)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"horizon = 8: .*no token is farther ahead than 7"):
        check_horizon(8, task)  # type: ignore[arg-type]
