"""Countdown at three scales: arithmetic that has to be planned before it is written.

The paper combines four numbers up to 99; three numbers up to 30 leave the laptop's decoder a
problem that it solves now and then, so that objectives can differ.
"""

from typing import Any

from nextlat_bench.presets._core import chosen, of_answers
from nextlat_bench.probes._core import Probe
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks.countdown import Countdown

__all__ = ["probes", "run"]


def run(objective: str = "nextlat", scale: Scale = "laptop", seed: int = 0) -> Run:
    """One row of the Countdown table; `--set objective.horizon=4` for its other horizons."""
    return {"smoke": smoke, "laptop": laptop, "paper": paper}[scale](objective, seed)


def smoke(objective: str, seed: int) -> Run:
    """Seconds: nothing is learnt, everything is run."""
    return Run(
        task=Countdown(
            num_inputs=3,
            max_input=30,
            max_target=40,
            largest=999,
            num_train=2_000,
            heldout=0.1,
            seed=seed,
        ),
        objective=chosen(objective, {"nextlat": {"latent_weight": 2.0}}),
        decoder=DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True),
        training=Training(
            steps=60, examples=64, micro_batches=2, optimizer="muon", warmup_steps=10
        ),
        seed=seed,
        scale="smoke",
    )


def laptop(objective: str, seed: int) -> Run:
    """Three minutes of one core for GPT, ten for MTP at horizon 8. Problems are drawn afresh.

    Each seed has problems and held-out targets of its own: nine targets are few, and some easier
    than others.
    """
    return Run(
        task=Countdown(num_inputs=3, max_input=30, max_target=60, largest=999, seed=seed),
        objective=chosen(objective, {"nextlat": {"latent_weight": 2.0}}),
        decoder=DecoderConfig(layers=4, heads=4, width=128, zero_init_residual=True),
        training=Training(
            steps=500,
            examples=256,
            micro_batches=2,
            optimizer="muon",
            learning_rate=1e-3,
            warmup_steps=50,
            decay_fraction=0.4,
            final_fraction=0.02,
        ),
        seed=seed,
        scale="laptop",
    )


def paper(objective: str, seed: int) -> Run:
    """The paper's sizes (Table 5 and Appendix F.2)."""
    nextlat: dict[str, Any] = {"latent_weight": 2.0, "dynamics_width": 768}
    return Run(
        task=Countdown(num_train=500_000, seed=seed),
        objective=chosen(objective, {"nextlat": nextlat}),
        decoder=DecoderConfig(layers=12, heads=12, width=768),
        training=Training(
            steps=100_000, examples=1_024, learning_rate=3e-4, weight_decay=0.1, clip=1.0
        ),
        seed=seed,
        scale="paper",
    )


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    return of_answers(scale, trials=2_000, paper_trials=10_000)
