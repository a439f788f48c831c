"""Which street map do a model's traversals imply? Its streets drawn black, those made up red.

Vafa et al. 2024 (arXiv 2406.03689), section 5. Each generated sequence is followed over the map. A
turn that does not exist becomes a false edge, to the nearest intersection that lies that way:

    origin --N--> . --E--> . --NW--> x        no street leads NW: x is the nearest node whose
                                              bearing is NW, at most half a mile away
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nextlat_bench.files import atomic_write
from nextlat_bench.generate import generate
from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe
from nextlat_bench.probes._intervals import share_measurement, skipped
from nextlat_bench.probes._sampling import end_of
from nextlat_bench.report.exhibits import StreetSketch
from nextlat_bench.report.figures import maps
from nextlat_bench.report.statistics import wilson_interval
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    BoolArray,
    FloatArray,
    IntArray,
    Task,
    check_count,
    check_field,
    is_number,
)
from nextlat_bench.tasks._streets import DIRECTIONS, EARTH_RADIUS, StreetMap, direction_of

__all__ = ["HALF_MILE", "MapReconstruction", "Reconstruction", "draw", "reconstruct"]
__all__ += ["sketch_of"]

HALF_MILE = 804.672  # metres
UNKNOWN, NOWHERE = -1, -2  # where a turn leads that the map does not have


@dataclass(frozen=True)
class Reconstruction:
    """The streets that n traversals imply: distinct directed edges that were driven on."""

    true_edges: IntArray  # (m, 2): node, neighbour
    false_edges: IntArray  # (k, 3): node, direction, neighbour
    stopped: BoolArray  # (n,): cut short by a turn that leads to no node

    @property
    def num_edges(self) -> int:
        return len(self.true_edges) + len(self.false_edges)

    @property
    def false_edge_share(self) -> float:
        """False edges / all edges; nan without any edge."""
        return len(self.false_edges) / self.num_edges if self.num_edges else float("nan")


def reconstruct(
    streets: StreetMap,
    origins: IntArray,
    turns: IntArray,
    max_degree: int = 8,
    max_length: float = HALF_MILE,
) -> Reconstruction:
    """(n,) nodes, (n, L) turns (indices into DIRECTIONS, -1: the traversal is over).

    A turn without a street is given the nearest node whose bearing falls into that direction, at
    most `max_length` metres away as the crow flies, where the new edge leaves both ends with at
    most `max_degree` different neighbours (to or from; a street driven the wrong way adds none).
    Later sequences reuse the edge. Where there is no such node, the traversal stops. All sequences
    advance together, and the edges of a step are added in the order of their nodes and directions,
    so that the order of the sequences does not matter. The map is left as it is.
    """
    turns = np.asarray(turns)
    if ((turns < -1) | (turns >= len(DIRECTIONS))).any():
        raise ValueError(f"turns: expected -1 (over) to {len(DIRECTIONS) - 1}")
    neighbours = Neighbours(streets, max_degree, max_length)
    implied = streets.neighbour.astype(np.int64)  # a copy
    driven = np.zeros(implied.shape, dtype=np.bool_)
    stopped = np.zeros(len(turns), dtype=np.bool_)
    node = np.array(origins, dtype=np.int64)
    row = np.arange(len(turns))  # the sequences that go on
    for turn in turns.T:
        row = row[turn[row] >= 0]
        if len(row) == 0:
            break
        edge = node[row], turn[row].astype(np.int64)
        new = np.stack(edge, axis=1)[implied[edge] == UNKNOWN]  # (k, 2)
        for at, direction in np.unique(new, axis=0).tolist():
            implied[at, direction] = neighbours.add_nearest(at, direction)
        lost = implied[edge] == NOWHERE
        stopped[row[lost]] = True
        row, edge = row[~lost], (edge[0][~lost], edge[1][~lost])
        driven[edge] = True
        node[row] = implied[edge]
    true_edge, false_edge = np.nonzero(driven & streets.exits), np.nonzero(driven & ~streets.exits)
    return Reconstruction(
        np.stack([true_edge[0], implied[true_edge]], axis=1),
        np.stack([*false_edge, implied[false_edge]], axis=1),
        stopped,
    )


class Neighbours:
    """Who is joined to whom, in either direction, and which node a false edge may lead to."""

    def __init__(self, streets: StreetMap, max_degree: int, max_length: float) -> None:
        if streets.longitude is None or streets.latitude is None:
            raise ValueError(f"{streets.source}: a map without coordinates")
        self.longitude, self.latitude = streets.longitude, streets.latitude
        self.max_degree, self.max_length = max_degree, max_length
        self.joined: list[set[int]] = [set() for _ in range(streets.num_nodes)]
        node, direction = np.nonzero(streets.exits)
        for a, b in zip(node.tolist(), streets.neighbour[node, direction].tolist(), strict=True):
            self.join(a, b)

    def join(self, a: int, b: int) -> None:
        self.joined[a].add(b)
        self.joined[b].add(a)

    def add_nearest(self, node: int, direction: int) -> int:
        """Joins `node` to the nearest node allowed in that direction and returns it, or NOWHERE."""
        longitude, latitude = self.longitude[node], self.latitude[node]
        metres = crow_flies(longitude, latitude, self.longitude, self.latitude)
        near = np.flatnonzero((metres > 0) & (metres <= self.max_length))
        bearing = direction_of(longitude, latitude, self.longitude[near], self.latitude[near])
        near = near[bearing == direction]
        for other in near[np.argsort(metres[near], kind="stable")].tolist():
            room = max(len(self.joined[node]), len(self.joined[other])) < self.max_degree
            if other in self.joined[node] or room:
                self.join(node, other)
                return int(other)
        return NOWHERE


def crow_flies(
    longitude: float, latitude: float, to_longitude: FloatArray, to_latitude: FloatArray
) -> FloatArray:
    """Great-circle distances in metres (haversine) from one point to n, all in degrees, (n,)."""
    phi, to_phi = np.radians(latitude), np.radians(to_latitude)
    across = np.sin(np.radians(to_longitude - longitude) / 2)
    along = np.sin((to_phi - phi) / 2)
    chord = np.sqrt(along**2 + np.cos(phi) * np.cos(to_phi) * across**2)
    return np.asarray(2 * EARTH_RADIUS * np.arcsin(np.minimum(chord, 1.0)))


@dataclass(frozen=True)
class Traversals:
    """What a subject generated: where n sequences start and the turns they take."""

    origins: IntArray  # (n,)
    turns: IntArray  # (n, L), -1 from the first token that is no turn
    strayed: BoolArray  # (n,): that token is not `end` either


@dataclass(frozen=True, kw_only=True)
class MapReconstruction(Probe):
    """The share of false edges in the map that generated traversals imply.

    `num_trials` held-out prompts are completed, greedily at temperature 0 (the default), and
    followed by `reconstruct`. `false_edge_share` is false / all distinct directed edges that were
    driven on, with Wilson's interval as if each edge were a trial; it grows with the number of
    traversals, since true edges run out and false ones do not: compare equal numbers only.
    Two reasons cut a sequence short, and what was driven until then counts: a turn that leads to no
    node (`stopped`), and a token that is neither a turn nor `end` (`strayed`).
    Where a traversal ends is not asked: one that always ends at once has no edges, and the share is
    nan.
    Source: Vafa et al. 2024, section 5.
    """

    name: ClassVar[str] = "map_reconstruction"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("false_edge_share", False, "share", "false edges among the edges driven on"),
        Metric("false_edges", False, "count", "distinct edges that are not on the map"),
        Metric("true_edges", None, "count", "distinct edges of the map that were driven on"),
        Metric("stopped", False, "share", "sequences cut short by a turn that leads nowhere"),
        Metric("strayed", False, "share", "sequences cut short by a token that is no turn"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"world", "coordinates"})
    catches: ClassVar[tuple[str, ...]] = ("uniform", "accept_everything", "forgetful", "wrong_map")
    misses: ClassVar[tuple[str, ...]] = (
        "shortest_path_oracle",
        "always_end",
        "legal_walker",
        "history_hash",
        "noisy_state",  # greedily; caught at temperature 1
        "ideal_learner",
    )

    num_trials: int = 1_000
    temperature: float = 0.0
    max_degree: int = 8
    max_length: float = HALF_MILE

    def __post_init__(self) -> None:
        check_count(self, "num_trials")
        check_field(self, "temperature", is_number(self.temperature), "0 (greedy) or above")
        check_count(self, "max_degree")
        valid = is_number(self.max_length) and self.max_length > 0
        check_field(self, "max_length", valid, "metres above 0")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        walks, found = self.reconstruction(subject, task, rng)
        strayed = walks.strayed & ~found.stopped  # a stopped one was not followed that far
        missing = Counter({"beyond the split": self.num_trials - len(strayed)})
        cut_short = Counter(
            {
                "sequences cut short by a turn that leads nowhere": int(found.stopped.sum()),
                "sequences cut short by a token that is no turn": int(strayed.sum()),
            }
        )
        num_false, num_edges = len(found.false_edges), found.num_edges
        interval = wilson_interval(num_false, num_edges)
        why = skipped(missing + cut_short)
        yield Measurement("false_edge_share", found.false_edge_share, *interval, num_edges, *why)
        for metric, count in (("false_edges", num_false), ("true_edges", len(found.true_edges))):
            value = float(count)  # of this very map: there is nothing to estimate
            yield Measurement(metric, value, value, value, len(strayed), *skipped(missing))
        yield share_measurement("stopped", found.stopped, why=missing)
        yield share_measurement("strayed", strayed, why=missing)

    def exhibit(self, subject: Subject, task: Task, rng: np.random.Generator) -> dict[str, Any]:
        """The map of `measure`, for pictures: see `nextlat_bench.report.exhibits`."""
        _, found = self.reconstruction(subject, task, rng)
        return vars(sketch_of(found, streets_of(task)))

    def reconstruction(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> tuple[Traversals, Reconstruction]:
        """What the subject drove, and the map that it implies; `draw` makes a picture of it."""
        streets = streets_of(task)
        walks = self.traversals(subject, task, rng)
        limits = self.max_degree, self.max_length
        return walks, reconstruct(streets, walks.origins, walks.turns, *limits)

    def traversals(self, subject: Subject, task: Task, rng: np.random.Generator) -> Traversals:
        """The subject's completions of held-out prompts, as turns."""
        end = end_of(task)
        prompts = task.prompts("test", 0, self.num_trials)
        how: dict[str, Any] = {"end": end, "pad": task.vocab.pad, "temperature": self.temperature}
        how["rng"] = rng if self.temperature > 0 else None  # greedy without
        tokens = generate(subject, prompts, task.max_new_tokens, **how)
        turn_of = np.full(len(task.vocab), -1)
        turn_of[[task.vocab.ids[direction] for direction in DIRECTIONS]] = np.arange(8)
        turning = np.logical_and.accumulate(turn_of[tokens] >= 0, axis=1)
        ran_out = turning.all(axis=1)
        last = tokens[np.arange(len(tokens)), turning.sum(axis=1) - ran_out]
        return Traversals(
            origins=prompts[:, 0],  # of the two tokens of a prompt, origin and destination
            turns=np.where(turning, turn_of[tokens], -1),
            strayed=~ran_out & (last != end),
        )


def streets_of(task: Task) -> StreetMap:
    """The task's street map; NotApplicable where it has none, or one without coordinates."""
    streets = getattr(task, "map", None)
    if not isinstance(streets, StreetMap):
        raise NotApplicable(f"the task {task.name} has no street map")
    if streets.longitude is None or streets.latitude is None:
        raise NotApplicable(f"the street map {streets.source} has no coordinates")
    return streets


def sketch_of(found: Reconstruction, streets: StreetMap) -> StreetSketch:
    """The same as plain numbers, places to a tenth of a metre: what a picture is made of."""
    if streets.longitude is None or streets.latitude is None:
        raise ValueError(f"{streets.source}: a map without coordinates cannot be drawn")
    node, direction = np.nonzero(streets.exits)
    return StreetSketch(
        run="",
        source=streets.source,
        nodes=np.stack([streets.longitude, streets.latitude], axis=1).round(6).tolist(),
        streets=np.stack([node, streets.neighbour[node, direction]], axis=1).tolist(),
        true_edges=found.true_edges.tolist(),
        false_edges=found.false_edges[:, [0, 2]].tolist(),
    )


def draw(found: Reconstruction, streets: StreetMap, path: str | Path, title: str = "") -> None:
    """Writes a PNG of one map, as `nextlat_bench.report.figures.maps` draws it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    shown = sketch_of(found, streets)
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    maps.sketch(axes, shown)
    share = f"{found.false_edge_share:.1%} of the edges driven on are false"
    axes.set_title(f"{title or streets.source}: {share if found.num_edges else 'no edges'}")
    entries = maps.entries(shown)
    where: dict[str, Any] = {"loc": "outside lower center", "ncols": 3, "frameon": False}
    figure.legend(list(entries.values()), list(entries), **where)
    credit: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 6, "color": "#666666"}
    axes.text(1, 0, maps.CREDIT, transform=axes.transAxes, **credit)
    FigureCanvasAgg(figure)
    out = BytesIO()
    figure.savefig(out, dpi=150, format="png")
    atomic_write(Path(path), out.getvalue())
