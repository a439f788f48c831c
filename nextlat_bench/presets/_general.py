"""The preset of a task that brings none: a small decoder, and the probes that ask for no map.

What a probe needs and the task lacks (a world, an end token) it reports as not applicable.
"""

from collections.abc import Callable
from functools import partial

from nextlat_bench import registry
from nextlat_bench.presets._core import chosen
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.accuracy import Accuracy
from nextlat_bench.probes.compression import Compression
from nextlat_bench.probes.detours import Detours
from nextlat_bench.probes.distinction import Distinction
from nextlat_bench.probes.length_generalization import LengthGeneralization
from nextlat_bench.probes.next_token import NextToken
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.state_probe import StateProbe
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.probes.trajectories import Trajectories
from nextlat_bench.probes.transition import Transition
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks._core import Task

__all__ = ["probes", "probes_of", "run", "run_of"]

# Taxi's, but for the rows and the horizon, which is in proportion to its walks
SMOKE_DECODER = DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True)
SMOKE_TRAINING = Training(
    steps=100,
    examples=128,
    micro_batches=2,
    optimizer="muon",
    learning_rate=3e-3,
    warmup_steps=10,
    decay_fraction=0.6,
    final_fraction=0.01,
)
LAPTOP_DECODER = DecoderConfig(layers=4, heads=4, width=128, zero_init_residual=True)
LAPTOP_TRAINING = Training(
    steps=1_400,
    examples=512,
    micro_batches=2,
    optimizer="muon",
    learning_rate=3e-3,
    warmup_steps=100,
    decay_fraction=0.6,
    final_fraction=0.01,
)


def run_of(task: type[Task]) -> Callable[..., Run]:
    """`run(objective, scale, seed, ...)` of the task's own preset, else of the general one."""
    if registry.has("presets", task.name):
        make: Callable[..., Run] = registry.load("presets", task.name).run
        return make
    return partial(run, task())


def probes_of(task: str, scale: Scale) -> tuple[Probe, ...]:
    """What runs of the task are measured by: its own preset's probes, else the general ones."""
    if registry.has("presets", task):
        return tuple(registry.load("presets", task).probes(scale))
    return probes(scale)


def run(task: Task, objective: str, scale: Scale, seed: int) -> Run:
    """The task with its default parameters; one example a row."""
    if scale == "paper":
        raise ValueError(f"--scale paper: the paper has no {task.name}; use smoke or laptop")
    small = scale == "smoke"
    return Run(
        task=task,
        objective=chosen(objective, {"nextlat": {"dynamics_width": 64 if small else 128}}),
        decoder=SMOKE_DECODER if small else LAPTOP_DECODER,
        training=SMOKE_TRAINING if small else LAPTOP_TRAINING,
        seed=seed,
        scale=scale,
    )


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    if scale == "smoke":
        return (
            NextToken(num_sequences=100),
            Trajectories(num_trials=100),
            Compression(num_states=20, num_continuations=5),
            Distinction(num_pairs=20, num_continuations=5),
            Detours(num_trials=50, probabilities=(0.0, 0.75)),
            Accuracy(num_trials=100),
            TeacherForced(num_sequences=100),
            LengthGeneralization(num_words=100, far=()),
            Rank(num_positions=2_048),
            Spectrum(num_positions=2_048),
            StateProbe(num_sequences=64),
            Transition(num_sequences=64),
        )
    return (
        NextToken(),
        Trajectories(num_trials=1_000),
        Compression(),
        Distinction(),
        Detours(),
        Accuracy(),
        TeacherForced(),
        LengthGeneralization(),
        Rank(num_positions=16_384),
        Spectrum(num_positions=16_384),
        StateProbe(),
        Transition(),
    )
