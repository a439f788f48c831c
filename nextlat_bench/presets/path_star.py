"""Path-Star graphs at three scales; `graph` is one of the scale's three, or any other.

The paper's graphs are G(2,10), G(5,5) and G(7,7) over 100 node ids, 200,000 of them fixed for
training. The laptop's are smaller, over as few ids as leave room, and never repeat: a decoder of
this size learns them in minutes or not at all.
"""

import re
from typing import Any

from nextlat_bench.presets._core import chosen, looking_ahead, of_answers
from nextlat_bench.probes._core import Probe
from nextlat_bench.run import DecoderConfig, Run, Scale, Training
from nextlat_bench.tasks.path_star import PathStar

__all__ = ["GRAPHS", "probes", "run"]

# by scale, of rising difficulty; the first is the default
GRAPHS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("2x3",),
    "laptop": ("2x5", "3x4", "3x5"),
    "paper": ("2x10", "5x5", "7x7"),
}


def run(
    objective: str = "nextlat", scale: Scale = "laptop", seed: int = 0, graph: str | None = None
) -> Run:
    """One bar of the Path-Star figure. `graph`: DEGREExLENGTH, "2x5" is G(2,5)."""
    degree, length = parsed(GRAPHS[scale][0] if graph is None else graph)
    make = {"smoke": smoke, "laptop": laptop, "paper": paper}[scale]
    return make(objective, seed, degree, length)


def parsed(graph: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,3})x(\d{1,3})", graph)
    if not found:
        raise ValueError(f"graph = {graph!r}: expected DEGREExLENGTH, e.g. 2x5")
    return int(found[1]), int(found[2])


def settings(length: int, **nextlat: Any) -> dict[str, dict[str, Any]]:
    """The paper's horizon, length - 2: from the arm's first node to the goal."""
    return looking_ahead(max(1, length - 2), **nextlat)


def smoke(objective: str, seed: int, degree: int, length: int) -> Run:
    """Seconds: nothing is learnt, everything is run."""
    return Run(
        task=PathStar(degree=degree, length=length, num_nodes=ids(degree, length, least=12)),
        objective=chosen(objective, settings(length)),
        decoder=DecoderConfig(layers=2, heads=2, width=64, zero_init_residual=True),
        training=Training(
            steps=60, examples=64, micro_batches=2, optimizer="muon", warmup_steps=10
        ),
        seed=seed,
        scale="smoke",
    )


def laptop(objective: str, seed: int, degree: int, length: int) -> Run:
    """Ten minutes or so of one core for NextLat: six layers leave room to look back along an arm,
    and with 128 graphs a step, not 64 for 3,000 steps, it solves G(3,4), too."""
    return Run(
        task=PathStar(degree=degree, length=length, num_nodes=ids(degree, length, least=20)),
        objective=chosen(objective, settings(length)),
        decoder=DecoderConfig(layers=6, heads=4, width=128, zero_init_residual=True),
        training=Training(
            steps=1_200,
            examples=128,
            micro_batches=2,
            optimizer="split_muon",
            learning_rate=1e-3,
            muon_learning_rate=0.01 if objective == "bst" else 0.02,  # results/choices
            warmup_steps=100,
            decay_fraction=0.4,
            final_fraction=0.02,
        ),
        seed=seed,
        scale="laptop",
    )


def paper(objective: str, seed: int, degree: int, length: int) -> Run:
    """The paper's sizes (Table 5 and Appendix F.3)."""
    return Run(
        task=PathStar(degree=degree, length=length, num_nodes=100, num_train=200_000),
        objective=chosen(objective, settings(length, dynamics_width=384)),
        decoder=DecoderConfig(layers=12, heads=6, width=384),
        training=Training(
            steps=20_000, examples=512, learning_rate=5e-4, weight_decay=0.1, clip=100.0
        ),
        seed=seed,
        scale="paper",
    )


def ids(degree: int, length: int, least: int) -> int:
    """As many node ids as twice the graph's nodes, but no fewer than `least`."""
    return max(least, 2 * (1 + degree * (length - 1)))


def probes(scale: Scale) -> tuple[Probe, ...]:
    """What a run of this scale is measured by."""
    return of_answers(scale, trials=1_000, paper_trials=20_000)
