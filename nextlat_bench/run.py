"""A run as a frozen value: what is trained, on what, how. Its id is a digest of its content."""

import dataclasses
import hashlib
import json
import types
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nextlat_bench import registry
from nextlat_bench.files import check_kinds
from nextlat_bench.tasks._core import (
    LONGEST,
    MOST_EXAMPLES,
    Task,
    check_count,
    check_field,
    check_number,
    check_option,
    is_number,
)

__all__ = ["SCALES", "DecoderConfig", "Run", "Scale", "Training", "check_run"]

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
SCHEMA = 1
MOST_LAYERS = 1_000
WIDEST = 100_000
HIGHEST_RATE = 1e30  # what is beyond no float32 holds


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of the transformer that every objective shares."""

    layers: int = 4
    heads: int = 4
    width: int = 128
    zero_init_residual: bool = False  # the paper: False; with Muon True learns faster
    # a learned vector on each first token, as a begin-of-sequence token
    mark_start: bool = field(default=False, metadata={"later": True})

    def __post_init__(self) -> None:
        check_count(self, "layers", most=MOST_LAYERS)
        check_count(self, "heads", most=WIDEST)
        check_count(self, "width", most=WIDEST)
        divides = self.width % (2 * self.heads) == 0
        expected = f"a multiple of twice the number of heads ({self.heads})"
        check_field(self, "width", divides, expected)
        for name in ("zero_init_residual", "mark_start"):
            check_field(self, name, isinstance(getattr(self, name), bool), "True or False")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a run is trained. A step reads `examples` examples, packed into rows of `row_length`.

    The batch is cut into `micro_batches` equal parts whose mean losses are averaged; on a CPU they
    run side by side, one a thread, and the numbers do not depend on how many do.
    """

    steps: int
    examples: int
    row_length: int | None = None  # None: one example a row
    micro_batches: int = 1
    optimizer: Literal["split_muon", "muon", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.01
    clip: float | None = None  # largest gradient norm
    warmup_steps: int = 0
    decay_fraction: float = 0.0  # share of the steps, at the end, over which the rate falls
    final_fraction: float = 0.0  # what is left of it at the last step
    # 1: it falls in a straight line; 2: fast first, then ever slower
    decay_power: float = field(default=1.0, metadata={"later": True})
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        check_count(self, "steps")
        check_count(self, "examples", most=MOST_EXAMPLES)
        check_count(self, "micro_batches", most=self.examples)
        check_count(self, "warmup_steps", 0)
        check_count(self, "row_length", 2, LONGEST, optional=True)
        for name in ("learning_rate", "muon_learning_rate"):
            check_number(self, name, most=HIGHEST_RATE)
        for name in ("weight_decay", "decay_power"):
            check_number(self, name, most=1_000)
        for name in ("decay_fraction", "final_fraction"):
            check_number(self, name, most=1)
        valid = self.clip is None or (is_number(self.clip) and self.clip > 0)
        check_field(self, "clip", valid, "a positive number, or none")
        for name, kind in get_type_hints(Training).items():
            if get_origin(kind) is Literal:
                check_option(self, name, get_args(kind))

    def rate(self, step: int) -> float:
        """The share of the learning rate used at a step, 0 for the first: linear up, flat, down."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        decay = round(self.decay_fraction * self.steps)
        into = step - (self.steps - decay)
        if into < 0:
            return 1.0
        left = float((1.0 - (into + 1) / decay) ** self.decay_power)
        return self.final_fraction + (1.0 - self.final_fraction) * left


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides a trained model's bytes on a given machine."""

    task: Any  # a Task
    objective: Any  # an Objective
    decoder: DecoderConfig
    training: Training
    seed: int = 0
    scale: Scale = "laptop"

    def __post_init__(self) -> None:
        check_field(self, "task", isinstance(self.task, Task), "a task")
        # asked so, because objectives import torch
        check_field(self, "objective", hasattr(self.objective, "check_task"), "an objective")
        for name, kind in {"decoder": DecoderConfig, "training": Training}.items():
            valid = isinstance(getattr(self, name), kind)
            check_field(self, name, valid, f"a {kind.__name__}")
        check_count(self, "seed", 0)
        check_option(self, "scale", SCALES)
        for plugin in (self.task, self.objective):
            registry.check_safe(plugin)
        self.objective.check_task(self.task)
        longest = self.task.max_length
        row = self.training.row_length
        if row is not None and row < longest:
            raise ValueError(
                f"Training.row_length = {row}: expected at least {longest}, "
                f"the longest example of {self.task.name}"
            )

    @property
    def id(self) -> str:
        """Readable, and unique to the content: taxi-nextlat-laptop-s0-1f2e3d4c."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
        return f"{self.task.name}-{self.objective.name}-{self.scale}-s{self.seed}-{digest}"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "task": registry.to_json(self.task),
            "objective": registry.to_json(self.objective),
            "decoder": registry.parameters(self.decoder),
            "training": registry.parameters(self.training),
            "seed": self.seed,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Run":
        """Inverse of `to_json`; loads torch, for the objective's sake."""
        check_run(value)
        try:
            return cls(
                task=registry.from_json("tasks", value["task"]),
                objective=registry.from_json("objectives", value["objective"]),
                decoder=DecoderConfig(**value["decoder"]),
                training=Training(**value["training"]),
                seed=value["seed"],
                scale=value["scale"],
            )
        except TypeError as error:  # an unknown or a missing field
            raise ValueError(f"run.json: {error}") from None

    def override(self, settings: list[str]) -> "Run":
        """A changed copy: `training.steps=100`, `objective.horizon=2`, `task.radius=500`.

        All at once: what only together has a meaning may come in any order.
        """
        changes: dict[str, dict[str, Any]] = {}
        for setting in settings:
            path, equals, text = setting.partition("=")
            part, dot, name = path.strip().partition(".")
            parts = ["task", "objective", "decoder", "training"]
            if not equals or not dot:
                raise ValueError(
                    f"--set {setting!r}: expected PART.FIELD=VALUE, e.g. training.steps=100"
                )
            registry.check_name("part of a run", part, parts)
            owner = getattr(self, part)
            registry.check_name(f"field of {part}", name, [f.name for f in fields(owner)])
            value = parse(text.strip(), registry.hints(type(owner))[name], path)
            changes.setdefault(part, {})[name] = value
        for name in list(changes.get("task", {})):
            changes["task"] = self.task.forgotten(name) | changes["task"]
        changed = {p: dataclasses.replace(getattr(self, p), **c) for p, c in changes.items()}
        return dataclasses.replace(self, **changed)


def check_run(value: Any) -> dict[str, Any]:
    """What `to_json` makes, if it has the form; a ValueError says what is missing."""
    schema = check_kinds(value, "run.json").get("schema")
    if schema != SCHEMA:
        raise ValueError(
            f"run.json has schema {schema!r}, this version reads {SCHEMA}: "
            "use the nextlat-bench version that wrote it, or a newer one"
        )
    parts = dict.fromkeys(("task", "objective", "decoder", "training"), dict)
    check_kinds(value, "run.json", **parts, seed=int, scale=str)
    for part in ("task", "objective"):
        check_kinds(value[part], f"run.json, {part}", name=str, parameters=dict)
    return value  # type: ignore[no-any-return]


def whole(text: str) -> int:
    """2000, 2_000 and 2e3 are one number; 2.5 is a ValueError."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():  # of infinities and nan, too
            raise
        return int(number)


def parse(text: str, kind: Any, path: str) -> Any:
    """Text from the command line -> a value of the field's type."""
    options = [kind]
    if get_origin(kind) in (Union, types.UnionType):
        options = list(get_args(kind))
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    for option in options:
        try:
            if option is bool and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if option in (int, float):
                return whole(text) if option is int and float not in options else option(text)
        except ValueError:
            continue
    if str in options or any(get_origin(o) is Literal for o in options):
        return text
    expected = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise ValueError(f"--set {path}={text}: expected {expected}")
