"""How many directions the hidden states use: their effective rank.

    p = sigma / sum(sigma),    effective rank = exp(-sum p ln p)

where sigma are the singular values of the matrix of hidden states (positions x D). Sources: Roy and
Vetterli 2007; Garrido et al. 2023 (RankMe); Teoh et al. 2025 (NextLat), section 4.1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes._states import ROWS_PER_CALL, own_readings, read, states_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import Batch, BoolArray, FloatArray, Task, check_count, check_option

__all__ = ["OfStates", "Positions", "Rank", "above_rounding", "effective_rank"]
__all__ += ["participation_ratio", "spectrum"]

Positions = Literal["all", "scored", "prompt"]
EPSILON = float(np.finfo(np.float64).eps)
NUM_GROUPS = 10  # of sequences, for the jackknife
STUDENT_95 = 2.2621571627409915  # 97.5% quantile of Student's t with NUM_GROUPS - 1 degrees


def spectrum(hidden: FloatArray, centred: bool = False) -> FloatArray:
    """(n, D) hidden states -> (min(n, D),) singular values, descending, in float64.

    `centred` subtracts the mean hidden state first. Anything but finite numbers is a ValueError.
    """
    rows = np.asarray(hidden, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"hidden states of shape {rows.shape}: expected (positions, D)")
    if not np.isfinite(rows).all():
        raise ValueError(f"{(~np.isfinite(rows)).sum()} hidden values are not finite")
    if centred:
        rows = rows - rows[0]  # first, so that nothing is left of rows that are all alike
        rows = rows - rows.mean(axis=0)
    # Not the Gram matrix's eigenvalues: squaring loses every sigma under 1e-8 of the largest.
    sigma: FloatArray = np.linalg.svd(rows, compute_uv=False)
    return sigma


def above_rounding(hidden: FloatArray, centred: bool = False) -> FloatArray:
    """The singular values of (n, D) hidden states that are more than the largest one's rounding,
    by the tolerance of numpy.linalg.matrix_rank: (<= min(n, D),), descending."""
    sigma = spectrum(hidden, centred)
    return np.asarray(sigma[sigma > sigma[0] * max(np.shape(hidden)) * EPSILON])


def effective_rank(hidden: FloatArray, centred: bool = False) -> float:
    """exp of the entropy of the normalised singular values of (n, D) hidden states.

    Between 1 and min(n, D); 0 where nothing is left of them (all alike, and centred). The uncentred
    one, the default and the paper's, is not translation-invariant.
    """
    sigma = above_rounding(hidden, centred)
    if len(sigma) == 0:
        return 0.0
    p = sigma / sigma.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def participation_ratio(hidden: FloatArray, centred: bool = True) -> float:
    """(sum lambda)^2 / sum lambda^2, lambda = eigenvalues of the covariance (Gao et al. 2017).

    Less swayed by a long tail of small directions than the effective rank. 0 where nothing is left.
    """
    sigma = above_rounding(hidden, centred)
    if len(sigma) == 0:
        return 0.0
    variance = (sigma / sigma[0]) ** 2  # scaled: no overflow
    return float(variance.sum() ** 2 / (variance**2).sum())


@dataclass(frozen=True)
class Moments:
    """All that the three numbers need of n hidden states, in at most D + 1 rows."""

    n: int
    mean: FloatArray  # (D,)
    triangle: FloatArray  # (min(n, D), D): R^T R is the scatter about the mean

    @classmethod
    def of(cls, hidden: FloatArray) -> "Moments":
        rows = hidden.astype(np.float64)
        apart = rows - rows[0]  # exact zeros where all are alike
        mean = apart.mean(axis=0)
        return cls(len(rows), rows[0] + mean, np.asarray(np.linalg.qr(apart - mean, mode="r")))


def stack(groups: Sequence[Moments], centred: bool) -> FloatArray:
    """Few rows with the very singular values of all hidden states of the groups together."""
    weights = np.array([group.n for group in groups], dtype=np.float64)  # (G,)
    means = np.stack([group.mean for group in groups])  # (G, D)
    if centred:
        means = means - means[0]
        means = means - weights @ means / weights.sum()
    return np.concatenate([np.sqrt(weights)[:, None] * means, *(g.triangle for g in groups)])


def groups_of(n: int) -> list[slice]:
    """n sequences in ten groups, fewer where there are fewer sequences."""
    bounds = np.linspace(0, n, min(NUM_GROUPS, n) + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(bounds)]


def in_groups(sequences: Sequence[FloatArray]) -> list[Moments]:
    """The hidden states of sequences, group by group."""
    return [Moments.of(np.concatenate(sequences[its])) for its in groups_of(len(sequences))]


def without_each(groups: list[Moments]) -> list[list[Moments]]:
    """All groups but one, for each of them; nothing where they are fewer than ten."""
    each = range(len(groups)) if len(groups) == NUM_GROUPS else ()
    return [groups[:g] + groups[g + 1 :] for g in each]


def jackknife(without: Sequence[float]) -> float:
    """Half of the interval of a value, from those without each of the groups; nan for fewer than
    ten, of which there is no honest one."""
    if len(without) < NUM_GROUPS:
        return float("nan")
    return STUDENT_95 * float(np.std(without) * np.sqrt(len(without) - 1))


@dataclass(frozen=True, kw_only=True)
class OfStates(Probe):
    """A probe of the hidden states of the first held-out sequences."""

    requires: ClassVar[frozenset[str]] = frozenset({"hidden"})

    num_positions: int = 256 * 256
    positions: Positions = "all"

    def __post_init__(self) -> None:
        check_count(self, "num_positions")
        check_option(self, "positions", get_args(Positions))

    def hidden_states(
        self, subject: Subject, task: Task, reading: str = "hidden"
    ) -> list[FloatArray]:
        """The chosen positions of each held-out sequence, (t, D), `num_positions` in all."""
        model = states_of(subject)
        found: list[FloatArray] = []
        missing, start = self.num_positions, 0
        while missing > 0:
            batch = task.sample("test", start, ROWS_PER_CALL)
            chosen = self.choose(batch)
            if not chosen.any():
                break
            counts = chosen.sum(axis=1)
            states = read(model, batch.tokens, chosen, reading)
            for part in np.split(states, counts.cumsum()[:-1]):
                if missing > 0 and len(part):
                    found.append(part[:missing])
                    missing -= len(found[-1])
            start += len(batch)
        if not found:
            raise NotApplicable(f"{task.name} has no {self.positions!r} positions")
        return found

    def choose(self, batch: Batch) -> BoolArray:
        """(n, L): which positions count. The prompt is all before the first scored position."""
        scored = np.asarray(batch.targets >= 0)
        if self.positions == "scored":
            return scored
        used = np.asarray(batch.document >= 0)
        if self.positions == "prompt":
            return np.asarray(used & (scored.cumsum(axis=1) == 0))
        return used


@dataclass(frozen=True, kw_only=True)
class Rank(OfStates):
    """Effective rank of the hidden states of held-out sequences: how compact is the model?

    Definition: `effective_rank` of the hidden states after the final norm, one row a position of
    held-out sequences, never padding; also after centring, and the participation ratio of their
    covariance. Reading each sequence by itself gives the rows that packing gives, since packed
    documents neither see each other nor share positions.
    Interval: delete-a-group jackknife over ten groups of sequences. All three grow with the number
    of positions, so compare equal numbers only.
    The rank of the token embeddings at the same positions, which published code took for that of
    the hidden states, is there for comparison only, of subjects that tell the two apart.
    Condition "trunk": what the heads of MTP read, where the subject has it.
    Read it beside the validity: a model whose states have collapsed also scores low.
    Source: NextLat, section 4.1 and Table 1 (256 x 256 positions).
    """

    name: ClassVar[str] = "rank"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("effective_rank", False, "dimensions", "exp entropy of the singular values"),
        Metric("effective_rank_centred", False, "dimensions", "the same about the mean state"),
        Metric("participation_ratio", False, "dimensions", "of the covariance's eigenvalues"),
        Metric("effective_rank_embedding", None, "dimensions", "of the tokens' own embeddings"),
        Metric("width", None, "dimensions", "D, the most that the others can be"),
    )

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        """Deterministic: the first held-out sequences, `rng` is not used."""
        sequences = self.hidden_states(subject, task)
        n, width = sum(map(len, sequences)), float(sequences[0].shape[1])
        hidden = in_groups(sequences)

        def plain(some: list[Moments]) -> float:
            return effective_rank(stack(some, centred=False))

        def centred(some: list[Moments]) -> float:
            return effective_rank(stack(some, centred=True))

        def participation(some: list[Moments]) -> float:
            return participation_ratio(stack(some, True), False)

        wanted = [
            ("effective_rank", plain, hidden, ""),
            ("effective_rank_centred", centred, hidden, ""),
            ("participation_ratio", participation, hidden, ""),
        ]
        readings = own_readings(states_of(subject))
        for metric, reading, where in (
            ("effective_rank_embedding", "embedding", ""),
            ("effective_rank", "trunk", "trunk"),
        ):
            if reading in readings:
                groups = in_groups(self.hidden_states(subject, task, reading))
                wanted += [(metric, plain, groups, where)]
        for metric, formula, groups, where in wanted:
            value = formula(groups)
            half = jackknife([formula(some) for some in without_each(groups)])
            yield Measurement(metric, value, value - half, value + half, n, condition=where)
        yield Measurement("width", width, width, width, n)
