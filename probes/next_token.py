"""Next-token test: is the likeliest next token legal in the true state?

Vafa et al. 2024, section 3.1; NextLat, section 4.1.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import is_legal, states_along, top1, world_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import BoolArray, IntArray, Task, World, check_count

__all__ = ["NextToken", "legal_top1"]


def legal_top1(
    world: World, tokens: IntArray, prompt_length: int, best: IntArray, scored: BoolArray
) -> BoolArray:
    """(n, T) tokens, (n, T) top-1 tokens read off each position -> (n, T): legal and scored?

    A position inside the prompt has no state: it is never scored.
    """
    states = states_along(world, tokens, prompt_length)
    out = np.zeros(tokens.shape, dtype=np.bool_)
    for t in range(prompt_length - 1, tokens.shape[1]):
        out[:, t] = is_legal(world, states[:, t - prompt_length + 1], best[:, t])
    return out & scored


@dataclass(frozen=True, kw_only=True)
class NextToken(Probe):
    """At each scored position of held-out sequences: is the top-1 token legal in the true state
    (a legal turn, or `end` exactly at the destination)?

    The value is a share of positions. Positions of one sequence are not independent, so that
    sequences are the trials and the interval is clustered by sequence (`_intervals.share`).
    """

    num_sequences: int = 1_000

    name: ClassVar[str] = "next_token"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("legal_top1", True, "share", "positions where the top-1 token is legal"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world"})
    catches: ClassVar[tuple[str, ...]] = (
        "uniform",
        "accept_everything",
        "always_end",
        "forgetful",
        "wrong_map",
    )
    misses: ClassVar[tuple[str, ...]] = (
        "shortest_path_oracle",
        "legal_walker",
        "history_hash",
        "noisy_state",
        "ideal_learner",
    )

    def __post_init__(self) -> None:
        check_count(self, "num_sequences")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        world = world_of(task)
        prompt_length = task.prompts("test", 0, 1).shape[1]
        batch = task.sample("test", 0, self.num_sequences)
        scored = batch.targets >= 0
        scored[:, : prompt_length - 1] = False
        best = top1(subject, batch.tokens)
        right = legal_top1(world, batch.tokens, prompt_length, best, scored)
        why = Counter({"beyond the split": self.num_sequences - len(batch)})
        yield share_measurement("legal_top1", right.sum(axis=1), scored.sum(axis=1), why)
