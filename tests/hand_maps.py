"""Street maps drawn by hand, in metres."""

import math

import numpy as np

from nextlat_bench.tasks.taxi import StreetMap

DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
N, NE, E, SE, S, SW, W, NW = range(8)
OVER = -1
METRE = 180 / math.pi / 6_371_009.0  # degrees on the equator


def map_of(places, exits):
    """Nodes at (east, north) metres of the equator's origin, and {(node, direction): neighbour}."""
    neighbour = np.full((len(places), 8), -1, np.int32)
    for (node, direction), other in exits.items():
        neighbour[node, direction] = other
    length = np.where(neighbour >= 0, 1.0, np.nan)
    east, north = METRE * np.array(places, dtype=np.float64).T
    return StreetMap("hand", neighbour, length, east, north, np.arange(len(places)))


def turns_of(*walks):
    longest = max(map(len, walks))
    return np.array([[*walk, *[OVER] * (longest - len(walk))] for walk in walks])
