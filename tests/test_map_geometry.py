"""How far a false edge is, where it leads among equals, and where a sketch has its places."""

import math

import numpy as np
import pytest
from hand_maps import METRE, E, N, S, map_of, turns_of
from hypothesis import given
from hypothesis import strategies as st

from nextlat_bench.probes.map_reconstruction import crow_flies, reconstruct, sketch_of

RADIUS = 6_371_009
PLACES = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


def from_the_centre(place):
    """Longitude and latitude in degrees -> the point on a globe of radius one."""
    x, y = map(math.radians, place)
    return np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])


@given(PLACES, st.lists(PLACES, max_size=3))
def test_distances_are_angles_at_the_centre_of_the_earth(here, there):
    a, points = from_the_centre(here), [from_the_centre(place) for place in there]
    angles = [math.atan2(np.linalg.norm(np.cross(a, b)), a @ b) for b in points]
    longitude, latitude = np.array(there).reshape(-1, 2).T
    found = crow_flies(*here, longitude, latitude)
    np.testing.assert_allclose(found, [RADIUS * angle for angle in angles], rtol=1e-9, atol=1)


def test_of_nodes_equally_near_the_first_is_taken():
    """Forty in one place: an order that any sort keeps by chance is not enough."""
    streets = map_of([(0, 0), *[(0, 50)] * 40], {(1, S): 0, (2, E): 1})
    found = reconstruct(streets, np.array([0]), turns_of([N]))
    assert found.false_edges.tolist() == [[0, N, 1]]


def test_a_sketch_has_its_places_to_a_tenth_of_a_metre():
    places = np.random.default_rng(0).uniform(0, 900, size=(50, 2))
    streets = map_of(places, {(0, N): 1})
    sketch = sketch_of(reconstruct(streets, np.array([0]), turns_of([N])), streets)
    assert np.array(sketch.nodes) / METRE == pytest.approx(places, abs=0.06)
    assert all(
        len(f"{x!r}") <= len("0.123456") for place in sketch.nodes for x in place if x > 1e-4
    )
