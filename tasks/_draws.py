"""How examples are drawn: in blocks, split by a hash of their content, fixed sets epoch by epoch.

Random access throughout: what is drawn is a function of (seed, split, number) alone.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._core import (
    MOST_EXAMPLES,
    SPLITS,
    IntArray,
    Split,
    Task,
    check_count,
    check_heldout,
    check_range,
    check_tokens,
)

__all__ = ["BLOCK", "DrawnTask", "epochs", "fill", "row_hash", "salted", "split_by_hash"]
__all__ += ["splitmix64"]

BLOCK = 1024  # examples drawn together
MAX_CANDIDATES = 8192  # drawn at once; bounds the memory of a rare split

Hashes = npt.NDArray[np.uint64]


def splitmix64(x: Hashes) -> Hashes:
    """Steele, Lea and Flood 2014: a bijection of 64 bits that leaves no pattern; wraps around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def row_hash(rows: IntArray) -> Hashes:
    """(..., L) integers -> (...): a hash of each row, in its order."""
    digest = np.zeros(rows.shape[:-1], np.uint64)
    for column in np.moveaxis(rows.astype(np.uint64, copy=False), -1, 0):
        digest = splitmix64(digest ^ column)
    return digest


def salted(content: Hashes, seed: int) -> Hashes:
    """(n,) hashes -> (n,): others for each seed."""
    return splitmix64(content ^ splitmix64(np.array([seed], np.uint64)))


def split_by_hash(content: Hashes, seed: int, heldout: float) -> IntArray:
    """(n,) hashes -> (n,): the index in SPLITS of each, a share `heldout` in validation and again
    in test. Equal content is in one split, whatever the size of the corpus."""
    uniform = (salted(content, seed) >> np.uint64(11)) * 2.0**-53
    held = (uniform < heldout).astype(np.int8) + (uniform < 2 * heldout)
    train, validation, test = (SPLITS.index(split) for split in ("train", "validation", "test"))
    return np.array([train, validation, test])[held]


def fill(
    size: int, share: float, draw: Callable[[int], tuple[IntArray, ...]], complaint: str
) -> tuple[tuple[IntArray, ...], float]:
    """Draws until `size` examples are accepted: their columns, and the share that was rejected.

    draw(n): of n candidates the accepted ones, as columns. share: of candidates that are about to
    be accepted. Where nothing ever is: a ValueError with the complaint.
    """
    accepted: list[tuple[IntArray, ...]] = []
    drawn = kept = 0
    while kept < size:
        n = min(MAX_CANDIDATES, int(1.1 * (size - kept) / share) + 8)
        accepted.append(draw(n))
        drawn, kept = drawn + n, kept + len(accepted[-1][0])
        if kept == 0 and drawn > 1000 / share:
            raise ValueError(f"{complaint} (nothing among {drawn:,} drawn)")
    parts = tuple(np.concatenate(part)[:size] for part in zip(*accepted, strict=True))
    return parts, 1 - kept / drawn


def epochs(start: int, n: int, size: int, seed: int) -> IntArray:
    """(n,): which of `size` fixed examples are read at start..start+n. Each is read once an epoch,
    in an order of the epoch's own; the first epoch reads them as they were drawn."""
    epoch, place = np.divmod(np.arange(start, start + n), size)
    out = place.copy()
    for e in np.unique(epoch[epoch > 0]).tolist():
        here = epoch == e
        out[here] = _order(seed, size, e)[place[here]]
    return out


@lru_cache(maxsize=2)
def _order(seed: int, size: int, epoch: int) -> IntArray:
    # the last entry keeps this stream apart from those of the blocks
    return np.random.default_rng([seed, 0, epoch, 1]).permutation(size)


class DrawnTask(Task):
    """A task whose examples are rows of one length, drawn a block at a time.

    num_train: size of a fixed training set, read once an epoch; None: fresh examples for ever.
    heldout: share in the validation and again in the test split.
    """

    seed: int
    num_train: int | None = None
    heldout: float

    def check_splits(self) -> None:
        check_count(self, "num_train", most=MOST_EXAMPLES, optional=True)
        check_heldout(self)

    def share_of(self, split: Split) -> float:
        """The share of all candidates that a split gets."""
        return 1 - 2 * self.heldout if split == "train" else self.heldout

    def lighter(self) -> Task:
        """Without a fixed training set, which takes up to half a minute."""
        own: Any = self
        return self if self.num_train is None else replace(own, num_train=None)

    @abstractmethod
    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        """(BLOCK, L) tokens of a block of a split, a function of (seed, split, block) alone, and
        the share of candidates that were rejected for it: other splits' or unfit."""

    def drawn(self, split: Split, start: int, n: int) -> IntArray:
        """(n, L): rows start..start+n of a split. Random access; the caller's own copy."""
        start, n = check_range(split, start, n)
        if split == "train" and self.num_train is not None:
            rows = _fixed(self)[epochs(start, n, self.num_train, self.seed)]
            return np.asarray(rows)
        blocks = [
            _block(self, split, b)[0][max(0, start - b * BLOCK) : start + n - b * BLOCK]
            for b in range(start // BLOCK, max(1, -(-(start + n) // BLOCK)))
        ]
        return np.concatenate(blocks) if blocks else _block(self, split, 0)[0][:0].copy()

    def rejection_rate(self, split: Split) -> float:
        """Of the candidates for the split's first block, the share that was rejected."""
        return _block(self, split, 0)[1]


@lru_cache(maxsize=16)  # sequential readers, and a split of test examples, draw a block once
def _block(task: DrawnTask, split: Split, block: int) -> tuple[IntArray, float]:
    drawn: Any = task.draw(split, block)
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        kind = type(drawn).__name__
        raise ValueError(f"{task.name}.draw gave a {kind}: expected tokens, and the share rejected")
    tokens, rejected = np.asarray(drawn[0]), float(drawn[1])
    if tokens.ndim != 2 or len(tokens) != BLOCK:
        raise ValueError(f"{task.name}.draw gave tokens {tokens.shape}: expected ({BLOCK}, L)")
    check_tokens(f"{task.name}.draw: tokens", tokens)
    tokens.setflags(write=False)
    return tokens, rejected


@lru_cache(maxsize=2)
def _fixed(task: DrawnTask) -> IntArray:
    """(num_train, L): the whole fixed training set."""
    assert task.num_train is not None
    blocks = [task.draw("train", b)[0] for b in range(-(-task.num_train // BLOCK))]
    return np.concatenate(blocks)[: task.num_train]
