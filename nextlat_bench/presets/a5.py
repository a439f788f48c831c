"""A5 words at three scales: does a model compute the product, and beyond the length it was taught?

The laptop scale keeps the paper's words (trained at 12, tested at 36 and on to 240) and lets the
decoder be four layers deep, since each doubles the prefix that a trunk can multiply out.
"""

from dataclasses import replace
from typing import Any

from nextlat_bench.presets._core import chosen
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes.clock import Clock
from nextlat_bench.probes.length_generalization import LengthGeneralization
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.teacher_forced import TeacherForced
from nextlat_bench.probes.transition import Transition
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks.a5 import A5

__all__ = ["probes", "run"]


def run(objective: str = "nextlat", scale: Scale = "laptop", seed: int = 0) -> Run:
    """One row of the A5 table."""
    made = {"smoke": smoke, "laptop": laptop, "paper": paper}[scale](objective, seed)
    if objective == "gru":  # what a GRU is trained with everywhere
        adamw: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-3, "clip": 1.0}
        adamw["muon_learning_rate"] = Training.muon_learning_rate  # not in use
        return replace(made, training=replace(made.training, **adamw))
    return made


def smoke(objective: str, seed: int) -> Run:
    """Seconds: nothing is learnt, everything is run."""
    return Run(
        task=A5(group="S3", length=4, test_length=12),
        objective=chosen(objective, {}),
        decoder=DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True),
        training=Training(
            steps=60,
            examples=128,
            micro_batches=2,
            optimizer="muon",
            warmup_steps=10,
            decay_fraction=0.4,
            final_fraction=0.02,
        ),
        seed=seed,
        scale="smoke",
    )


def laptop(objective: str, seed: int) -> Run:
    """Ten minutes or so of one core. For the first 1,000 steps words grow to 12 elements."""
    nextlat: dict[str, Any] = {"horizon": 8, "dynamics_width": 256}
    papers = nextlat | {"horizon": 1, "kl_weight": 0.0}
    own = {
        "nextlat": nextlat,
        "noisy_nextlat": nextlat | {"latent_weight": 0.1, "noise": 0.4, "jitter": 2.5},
        "stationary_nextlat": papers | {"stationary_weight": 10.0},
        "closed_nextlat": papers,
    }
    return Run(
        task=A5(test_length=240, growth=1_000 * 128),
        objective=chosen(objective, own),
        decoder=DecoderConfig(layers=4, heads=4, width=128, zero_init_residual=True),
        training=Training(
            steps=3_400,
            examples=128,
            optimizer="muon",
            learning_rate=1e-3,
            muon_learning_rate=0.01,  # results/choices
            warmup_steps=100,
            decay_fraction=0.75,
            decay_power=2.0,
            final_fraction=0.002,
        ),
        seed=seed,
        scale="laptop",
    )


def paper(objective: str, seed: int) -> Run:
    """The paper's sizes (Table 5 and Appendix F.5)."""
    nextlat: dict[str, Any] = {"latent_weight": 1.0, "kl_weight": 0.0, "dynamics_width": 1024}
    return Run(
        task=A5(num_train=800_000),
        objective=chosen(objective, {"nextlat": nextlat}),
        decoder=DecoderConfig(layers=2, heads=8, width=512),
        training=Training(
            steps=400_000, examples=1_024, learning_rate=1e-4, weight_decay=0.01, clip=1.0
        ),
        seed=seed,
        scale="paper",
    )


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    if scale == "smoke":
        return (
            LengthGeneralization(num_words=100, far=()),
            Clock(num_words=100, far=(), num_counted=100),
            TeacherForced(num_sequences=100),
            Rank(num_positions=512),
            Spectrum(num_positions=512),
            Transition(num_sequences=64, steps=2),
        )
    return (
        LengthGeneralization(num_words=100_000 if scale == "paper" else 1_000),
        Clock(num_words=100_000 if scale == "paper" else 1_000),
        TeacherForced(),
        Rank(num_positions=65_536 if scale == "paper" else 12_000),
        Spectrum(num_positions=65_536 if scale == "paper" else 12_000),
        Transition(),
    )
