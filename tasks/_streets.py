"""Street maps as tables of exits: at most one exit per intersection and compass direction.

NumPy alone on import. SciPy is imported where graphs are searched, and osmnx only to read GraphML,
OSM XML or a place (_street_files.py).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._cache import cached_arrays
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray, check_field
from nextlat_bench.tasks._street_files import (
    DIRECTIONS,
    IN_MEMORY,
    Edges,
    read_edges,
    read_graph,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["DIRECTIONS", "EARTH_RADIUS", "StreetMap", "direction_of"]

EARTH_RADIUS = 6_371_009.0  # metres, as in osmnx
MAX_NODES = 30_000  # beyond it a table of all pairs takes gigabytes
CHUNK = 512  # sources per Dijkstra call: bounds its float64 rows


def direction_of(
    longitude: FloatArray, latitude: FloatArray, to_longitude: FloatArray, to_latitude: FloatArray
) -> IntArray:
    """Index into DIRECTIONS of the initial great-circle bearing between points in degrees, (E,)."""
    east = np.radians(to_longitude - longitude)
    phi, to_phi = np.radians(latitude), np.radians(to_latitude)
    y = np.sin(east) * np.cos(to_phi)
    x = np.cos(phi) * np.sin(to_phi) - np.sin(phi) * np.cos(to_phi) * np.cos(east)
    bearing = np.degrees(np.arctan2(y, x))
    # the last % 8: a remainder just below 360 may round up to 360
    return np.asarray((bearing + 22.5) % 360 // 45, np.int64) % 8


@dataclass(frozen=True, eq=False)
class StreetMap:
    """A street network whose turns are compass directions; equal by content.

    source: the embedded name, file or place it was loaded from.
    neighbour: (N, 8) int32, where the exit in each of DIRECTIONS leads; -1 without one.
    length: (N, 8) float64, metres; nan without an exit, and everywhere if the map has no lengths.
    longitude, latitude: (N,) float64 degrees, or None if the map has no coordinates.
    node_ids: (N,) the intersections' names in the source.
    notes: what was dropped on the way (self_loops, same_direction: exits; outside_component,
        outside_radius: intersections) or, in a CSV map, kept (self_loops, dead_ends).
    """

    source: str
    neighbour: IntArray
    length: FloatArray
    longitude: FloatArray | None
    latitude: FloatArray | None
    node_ids: npt.NDArray[Any]
    notes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_field(self, "source", isinstance(self.source, str), "a text")
        n = np.size(self.neighbour) // 8
        tables = {"neighbour": (n, 8), "length": (n, 8), "node_ids": (n,)}
        without = self.longitude is None and self.latitude is None
        coordinates = {} if without else {"longitude": (n,), "latitude": (n,)}
        for name, shape in (tables | coordinates).items():
            column, kinds = getattr(self, name), {"neighbour": "i", "node_ids": "iU"}.get(name, "f")
            valid = isinstance(column, np.ndarray) and column.shape == shape
            valid = valid and column.dtype.kind in kinds
            check_field(self, name, valid, f"an array of shape {shape}, dtype {' or '.join(kinds)}")
            # a copy in one type: equal maps are equal, and the caller's arrays stay as they are
            own = {"i": np.int32, "f": np.float64}.get(kinds, column.dtype)
            object.__setattr__(self, name, np.array(column, own))
        inside = bool(((self.neighbour >= -1) & (self.neighbour < n)).all())
        check_field(self, "neighbour", inside, f"integers from -1 to {n - 1}")
        ordered = np.sort(self.neighbour, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        check_field(self, "neighbour", not twice.any(), "one exit at most to each neighbour")
        metres = self.length[self.neighbour >= 0]
        sound = bool((metres >= 0).all() or np.isnan(metres).all())
        check_field(self, "length", sound, "metres, 0 or more, at each exit, or nan everywhere")
        if n < 2:
            raise ValueError(
                f"{self.source}: the map falls apart: its largest strongly connected part has "
                f"{len(self.neighbour)} intersection(s); use a larger area"
            )
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreetMap) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:  # without the cached tables of all pairs
        return StreetMap, tuple(getattr(self, column.name) for column in fields(self))

    def __repr__(self) -> str:
        return f"<StreetMap {self.describe()}>"  # of tables of thousands of rows nobody reads all

    @property
    def num_nodes(self) -> int:
        return len(self.neighbour)

    @property
    def num_edges(self) -> int:
        return int(self.exits.sum())

    @cached_property
    def exits(self) -> BoolArray:
        """(N, 8): is there an exit?"""
        return self.neighbour >= 0

    @property
    def has_lengths(self) -> bool:
        return bool(np.isfinite(self.length[self.exits]).all())

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the exits, lengths and coordinates."""
        content = hashlib.sha256()
        for value in (self.neighbour, self.length, self.longitude, self.latitude):
            content.update(b"none" if value is None else value.tobytes())
        return content.hexdigest()

    def describe(self) -> str:
        """One line: the name, the size, and what was dropped or kept."""
        notes = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in self.notes.items() if v)
        size = f"{self.source}: {self.num_nodes:,} intersections, {self.num_edges:,} exits"
        return f"{size} ({notes})" if notes else size

    @classmethod
    def load(cls, source: str | Path | dict[str, str]) -> "StreetMap":
        """An embedded map by name, a GraphML, OSM XML or CSV file, or a place through osmnx.

        A CSV file (`node,direction,neighbour`) is taken as it stands; every other map keeps at most
        one exit per direction, then its largest strongly connected component. A `reference` is
        loaded and compared. A ValueError says what is wrong with the source, in one line.
        """
        if isinstance(source, dict):
            return cls._from_reference(source)
        edges = read_edges(source)
        return cls._from_table(edges) if edges.direction is not None else cls._from_edges(edges)

    def reference(self) -> dict[str, str]:
        """The map as JSON: {"source", "digest"}, which `load` takes."""
        return {"source": self.source, "digest": self.digest}

    @classmethod
    def _from_reference(cls, reference: dict[str, str]) -> "StreetMap":
        if set(reference) != {"source", "digest"}:
            raise ValueError(f"streets = {reference!r}: expected the keys source and digest")
        source, digest = str(reference["source"]), str(reference["digest"])
        if source == IN_MEMORY:
            raise ValueError(f"streets were made from {source}: save it as GraphML and load that")
        streets = cls.load(source)
        if streets.digest != digest:
            raise ValueError(
                f"{source}: the map changed: its digest is {streets.digest[:12]}, expected "
                f"{digest[:12]} (a map cropped by hand cannot be loaded either: use Taxi's radius)"
            )
        return streets

    @classmethod
    def from_graph(cls, graph: Any) -> "StreetMap":
        """From an unprojected networkx.MultiDiGraph as osmnx makes it (x, y, length)."""
        return cls._from_edges(read_graph(IN_MEMORY, graph))

    @classmethod
    def _from_table(cls, edges: Edges) -> "StreetMap":
        """A table of exits as it stands: dead ends and self-loops are kept."""
        assert edges.direction is not None
        neighbour = np.full((len(edges.node_ids), 8), -1, np.int32)
        neighbour[edges.u, edges.direction] = edges.v
        dead_ends = int((neighbour < 0).all(axis=1).sum())
        notes = {"dead_ends": dead_ends, "self_loops": int((edges.u == edges.v).sum())}
        length = np.full(neighbour.shape, np.nan)
        return cls(edges.source, neighbour, length, None, None, edges.node_ids, notes)

    @classmethod
    def _from_edges(cls, edges: Edges) -> "StreetMap":
        """One exit per direction, the shorter edge first, then the smaller neighbour index."""
        proper = edges.u != edges.v
        u, v, length = edges.u[proper], edges.v[proper], edges.length[proper]
        longitude, latitude = edges.longitude, edges.latitude
        direction = direction_of(longitude[u], latitude[u], longitude[v], latitude[v])
        order = np.lexsort((v, length, direction, u))
        _, first = np.unique((u * 8 + direction)[order], return_index=True)
        kept = order[first]
        size = (len(edges.node_ids), 8)
        table, metres = np.full(size, -1, np.int32), np.full(size, np.nan)
        table[u[kept], direction[kept]] = v[kept]
        metres[u[kept], direction[kept]] = length[kept]
        notes = {
            "self_loops": int((~proper).sum()),
            "same_direction": len(u) - len(kept),
        }
        everything = np.ones(len(table), bool)
        columns = (longitude, latitude, edges.node_ids)
        return cls._component(edges.source, table, metres, columns, everything, notes)

    @classmethod
    def _component(
        cls,
        source: str,
        neighbour: IntArray,
        length: FloatArray,
        columns: tuple[FloatArray, FloatArray, npt.NDArray[Any]],
        keep: BoolArray,
        notes: dict[str, int],
    ) -> "StreetMap":
        """The largest strongly connected component of the nodes to keep, renumbered."""
        exits = (neighbour >= 0) & keep[neighbour] & keep[:, None]
        u, k = np.nonzero(exits)
        v = neighbour[u, k]
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        graph = csr_array((np.ones(len(u)), (u, v)), shape=(len(keep), len(keep)))
        label = connected_components(graph, connection="strong")[1]
        size = np.bincount(label[keep], minlength=len(keep))
        # among equally large components the one that holds the first node
        inside = keep & (size[label] == size.max())
        inside &= label == label[np.argmax(inside)]
        number = np.where(inside, np.cumsum(inside) - 1, -1)
        exits = exits[inside] & inside[neighbour[inside]]
        outside = notes.get("outside_component", 0) + int((keep & ~inside).sum())
        notes = {**notes, "outside_component": outside}
        return cls(
            source,
            neighbour=np.where(exits, number[neighbour[inside]], -1).astype(np.int32),
            length=np.where(exits, length[inside], np.nan),
            longitude=columns[0][inside],
            latitude=columns[1][inside],
            node_ids=columns[2][inside],
            notes=notes,
        )

    def crop(self, radius_m: float) -> "StreetMap":
        """The nodes within `radius_m` metres of the centre, the median longitude and latitude; then
        their largest component."""
        if not 0 < radius_m < np.inf:
            raise ValueError(f"radius = {radius_m!r}: expected metres above 0")
        if self.longitude is None or self.latitude is None:
            raise ValueError(f"{self.source}: a map without coordinates cannot be cropped")
        east = np.radians(self.longitude - np.median(self.longitude))
        north = np.radians(self.latitude - np.median(self.latitude))
        distance = np.hypot(east * np.cos(np.radians(np.median(self.latitude))), north)
        keep = distance * EARTH_RADIUS <= radius_m
        notes = {**self.notes, "outside_radius": int((~keep).sum())}
        columns = (self.longitude, self.latitude, self.node_ids)
        if not keep.any():
            raise ValueError(f"{self.source}: no intersection within {radius_m:g} m of its centre")
        return self._component(self.source, self.neighbour, self.length, columns, keep, notes)

    def hops(self) -> IntArray:
        """(N, N) int16: the fewest turns from row to column, -1 where there is no way. Cached."""
        return self._hops

    def shortest_turns(self) -> IntArray:
        """(N, N) int8: the first turn of the shortest path in metres from row to column.

        -1 on the diagonal and where there is no way. Cached. Needs lengths.
        """
        return self._shortest_turns

    def graph(self, weights: FloatArray | None = None) -> "csr_array[np.float64, tuple[int, int]]":
        """(N, N) sparse matrix of the exits, weighted by `weights` (num_edges,) in table order."""
        from scipy.sparse import csr_array

        u, k = np.nonzero(self.exits)
        values = np.asarray(self.length[u, k] if weights is None else weights, np.float64)
        shape = (self.num_nodes, self.num_nodes)
        return csr_array((values, (u, self.neighbour[u, k])), shape=shape)

    @cached_property
    def _hops(self) -> IntArray:
        from scipy.sparse.csgraph import dijkstra

        def compute() -> IntArray:
            graph = self.graph(np.ones(self.num_edges))
            hops = np.empty((self.num_nodes, self.num_nodes), np.int16)
            for rows in self._chunks():
                turns = dijkstra(graph, unweighted=True, indices=rows)
                hops[rows] = np.where(np.isinf(turns), -1, turns)
            return hops

        return self._all_pairs("hops", np.int16, compute)

    @cached_property
    def _shortest_turns(self) -> IntArray:
        if not self.has_lengths:
            raise ValueError(f"{self.source}: the map has no lengths, so no shortest paths")

        from scipy.sparse.csgraph import dijkstra

        def compute() -> IntArray:
            backward = self.graph().T.tocsr()
            turns = np.full((self.num_nodes, self.num_nodes), -1, np.int8)
            for columns in self._chunks():  # destinations
                _, following = dijkstra(backward, indices=columns, return_predecessors=True)
                chunk = np.full(following.shape, -1, np.int8)
                for k in range(8):
                    towards = self.exits[:, k] & (self.neighbour[:, k] == following)
                    chunk[towards] = k
                turns[:, columns] = chunk.T
            return turns

        return self._all_pairs("shortest-turns", np.int8, compute)

    def _chunks(self) -> list[IntArray]:
        nodes = np.arange(self.num_nodes)
        return [nodes[i : i + CHUNK] for i in range(0, self.num_nodes, CHUNK)]

    def _all_pairs(self, name: str, dtype: type, compute: Callable[[], IntArray]) -> IntArray:
        if self.num_nodes > MAX_NODES:
            raise ValueError(
                f"{self.source}: {self.num_nodes:,} intersections are too many for a table of all "
                f"pairs (at most {MAX_NODES:,}); crop the map by a radius"
            )
        if self.num_nodes <= 500:
            table = compute()
        else:
            shape = (self.num_nodes, self.num_nodes)
            table = cached_arrays(
                f"{name}-{self.digest}",
                lambda: {name: compute()},
                lambda arrays: arrays[name].shape == shape and arrays[name].dtype == dtype,
            )[name]
        table.setflags(write=False)
        return table
