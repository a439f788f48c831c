"""Street maps drawn by hand, in metres, or by chance."""

import math

import networkx as nx
import numpy as np

from nextlat_bench.known import KNOWN
from nextlat_bench.tasks.taxi import StreetMap, Taxi

DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
N, NE, E, SE, S, SW, W, NW = range(8)
OVER = -1
MAP_SUBJECTS = [name for name in KNOWN if name != "clever_hans"]  # the shortcut of a star
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


def random_streets(seed, num_nodes=10):
    """A ring, so that nothing falls apart, and random one-way streets."""
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph()
    for node, (x, y) in enumerate(rng.uniform(31.0, 31.05, size=(num_nodes, 2)).tolist()):
        graph.add_node(node, x=x, y=y)
    nx.add_cycle(graph, range(num_nodes), length=float(rng.integers(1, 90)))
    nx.add_cycle(graph, range(num_nodes)[::-1], length=float(rng.integers(1, 90)))
    for u, v in rng.integers(num_nodes, size=(num_nodes, 2)).tolist():
        graph.add_edge(u, v, length=float(rng.integers(1, 200)))
    return StreetMap.from_graph(graph)


def task_on(map_seed, **parameters):
    """A task on a random map that is large enough to have pairs in every split."""
    while True:
        streets = random_streets(map_seed)
        if streets.num_nodes >= 6:
            defaults = {"min_nodes": 2, "max_nodes": 9, "heldout": 0.25, "max_path": 20}
            return Taxi(streets=streets, **defaults | parameters)
        map_seed += 1
