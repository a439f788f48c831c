"""In which order a fixed training set is read."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.tasks._draws import epochs


@given(st.integers(0, 90), st.integers(0, 90), st.integers(1, 30), st.integers(0, 2**31))
def test_each_example_is_read_once_an_epoch(start: int, n: int, size: int, seed: int) -> None:
    whole = epochs(0, 7 * size, size, seed).reshape(7, size)
    np.testing.assert_array_equal(np.sort(whole), np.tile(np.arange(size), (7, 1)))
    np.testing.assert_array_equal(whole[0], np.arange(size))
    part = epochs(start, n, size, seed)[: max(0, 7 * size - start)]
    np.testing.assert_array_equal(part, whole.flatten()[start : start + n])


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = [
        tuple(epoch) for seed in range(3) for epoch in epochs(50, 200, 50, seed).reshape(4, 50)
    ]
    assert len(set(orders)) == 12
