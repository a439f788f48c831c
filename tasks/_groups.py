"""Small finite groups as multiplication tables.

Permutations multiply from left to right: g * h is first g, then h, so that (g * h)[x] = h[g[x]].
Elements are numbered in lexicographic order of their images, so that the identity is number 0.
"""

from functools import lru_cache
from itertools import permutations

import numpy as np

from nextlat_bench.tasks._core import IntArray

__all__ = ["GROUPS", "element_names", "multiplication_table"]

GROUPS = ("A5", "S5", "S4", "A4", "S3", "Z60", "A4xZ5")


def _permutations(group: str) -> IntArray:
    """(order, points): the images of 0..points-1 under each element; "A4": even ones only."""
    points = int(group[1:])
    images = np.array(list(permutations(range(points))))
    if group[0] == "S":
        return images
    later = np.triu(np.ones((points, points), bool), 1)
    inversions = ((images[:, :, None] > images[:, None, :]) & later).sum(axis=(1, 2))
    return np.asarray(images[inversions % 2 == 0])


def _factors(group: str) -> list[str]:
    return group.split("x")


@lru_cache
def multiplication_table(group: str) -> IntArray:
    """(order, order): the number of g * h at [g, h]. Of a product, the last factor runs fastest."""
    table = np.zeros((1, 1), np.int64)
    for factor in _factors(group):
        if factor[0] == "Z":
            order = int(factor[1:])
            own = np.add.outer(np.arange(order), np.arange(order)) % order
        else:
            images = _permutations(factor)
            order, points = images.shape
            place = points ** np.arange(points)[::-1]
            codes = images @ place  # ascending, since the images are in lexicographic order
            products = images[np.arange(order)[None, :, None], images[:, None, :]]  # h[g[x]]
            own = np.searchsorted(codes, products @ place)
        n = len(table)
        table = (table[:, None, :, None] * order + own[None, :, None, :]).reshape(
            n * order, n * order
        )
    table.setflags(write=False)
    return table


@lru_cache
def element_names(group: str) -> tuple[str, ...]:
    """Cycles of 1..points, "e" for the identity; "+k" for an element of a cyclic factor."""
    names = [""]
    for factor in _factors(group):
        if factor[0] == "Z":
            own = [f"+{k}" for k in range(int(factor[1:]))]
        else:
            own = [_cycles(image.tolist()) for image in _permutations(factor)]
        names = [a + b for a in names for b in own]
    return tuple(names)


def _cycles(image: list[int]) -> str:
    """[1, 0, 3, 2] -> "(12)(34)"."""
    seen: set[int] = set()
    text = ""
    for first in range(len(image)):
        cycle, x = [], first
        while x not in seen:
            seen.add(x)
            cycle.append(str(x + 1))
            x = image[x]
        if len(cycle) > 1:
            text += f"({''.join(cycle)})"
    return text or "e"
