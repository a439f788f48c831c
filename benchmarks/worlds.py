"""What generators and worlds take on one core: walks, problems, words, all pairs of paths."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks._core import Section, alternate, ratio, shown, spread
from nextlat_bench.tasks._streets import StreetMap
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.countdown import Countdown
from nextlat_bench.tasks.path_star import PathStar
from nextlat_bench.tasks.taxi import Taxi

__all__ = ["run"]

ROUNDS = 5
SOURCES = 200  # of the map's intersections, whose paths to all others are sought


def drawn(task: Any, n: int) -> tuple[float, float]:
    """Tokens and examples a second of CPU time, of examples that were never drawn before."""
    task.sample("train", 0, 1)
    begin = time.process_time()
    batch = task.sample("train", 2**20, n)
    seconds = time.process_time() - begin
    return float((batch.document >= 0).sum() / seconds), n / seconds


def generators() -> Section:
    table = Section("Generators on one core", ["task", "tokens a second", "examples a second"])
    tasks: dict[str, tuple[Any, int]] = {
        "taxi, random walks, full embedded map": (Taxi(), 2**16),
        "taxi, noisy shortest paths, full embedded map": (Taxi(generator="noisy"), 1024),
        "path_star, G(2,5)": (PathStar(degree=2, length=5), 2**17),
        "countdown, 4 numbers up to 99": (Countdown(), 2**16),
        "a5, 12 elements": (A5(), 2**18),
    }
    for name, (task, n) in tasks.items():
        # a new seed each round: nothing is found cached
        rounds = [drawn(replace(task, seed=seed), n) for seed in range(1, ROUNDS + 1)]
        tokens, examples = (spread(column) for column in zip(*rounds, strict=True))
        table.add(name, shown(tokens, 0), shown(examples, 0))
        table.facts[name] = {"tokens_per_second": tokens, "examples_per_second": examples}
    begin = time.process_time()
    Countdown(seed=99).sample("train", 0, 500_000)
    seconds = time.process_time() - begin
    table.notes.append(f"500,000 Countdown problems of the paper's form: {seconds:.1f} s.")
    table.facts["500,000 Countdown problems, seconds"] = seconds
    return table


def shortest_paths() -> Section:
    """Lengths in metres from some intersections to all: SciPy, as ours, and networkx."""
    import networkx as nx
    from scipy.sparse.csgraph import dijkstra

    streets = StreetMap.load("heliopolis")
    sparse = streets.graph()
    graph: nx.DiGraph[int] = nx.DiGraph()
    u, k = np.nonzero(streets.exits)
    v, metres = streets.neighbour[u, k], streets.length[u, k]
    for tail, head, weight in zip(u.tolist(), v.tolist(), metres.tolist(), strict=True):
        if not graph.has_edge(tail, head) or weight < graph[tail][head]["weight"]:
            graph.add_edge(tail, head, weight=weight)
    sources = np.random.default_rng(0).choice(streets.num_nodes, SOURCES, replace=False)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = dijkstra(sparse, indices=sources)

    def networkx() -> None:
        found["networkx"] = [
            nx.single_source_dijkstra_path_length(graph, source) for source in sources.tolist()
        ]

    seconds = alternate({"ours": ours, "networkx": networkx}, ROUNDS)
    for row, distances in zip(found["ours"], found["networkx"], strict=True):
        np.testing.assert_allclose(row[list(distances)], list(distances.values()))
    quotient = ratio(seconds["networkx"], seconds["ours"])
    table = Section(
        f"Shortest paths in metres from {SOURCES} intersections of {streets.num_nodes:,}",
        ["side", "seconds", "times ours"],
    )
    for name, taken in seconds.items():
        times = "" if name == "ours" else shown(quotient, 1)
        table.add(name, shown(spread(taken), 3), times)
        table.facts[name] = spread(taken)
    table.facts["ratio"] = quotient
    table.notes.append("Both sides found the same distances.")
    return table


def run() -> list[Section]:
    return [generators(), shortest_paths()]
