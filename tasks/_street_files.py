"""Where street maps come from: embedded tables, files, and places through osmnx."""

import csv
import difflib
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._cache import Arrays, cache_dir, cached_arrays
from nextlat_bench.tasks._core import FloatArray, IntArray

__all__ = [
    "DIRECTIONS",
    "IN_MEMORY",
    "Edges",
    "embedded_names",
    "read_edges",
    "read_graph",
]

MAPS = Path(__file__).parent / "maps"
SUFFIXES = (".graphml", ".osm", ".xml", ".csv")
MAX_BYTES = 200_000_000
LONGEST_ID = 100  # characters
CACHE_FORMAT = 1  # raise it when a parser changes what it makes of the same bytes
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
IN_MEMORY = "a graph in memory"
DRIVABLE = {
    *(
        road + link
        for road in ("motorway", "trunk", "primary", "secondary", "tertiary")
        for link in ("", "_link")
    ),
    *("unclassified", "residential", "living_street", "road"),
}
GRAPHML, OSM_XML = "GraphML that osmnx.save_graphml wrote", "OSM XML"
NO_NETWORK = "no network: use --streets heliopolis or a GraphML file"


@dataclass(frozen=True)
class Edges:
    """E directed edges between N nodes, as a source lists them.

    A table (`direction` given, an index 0..7 clockwise from N) has no coordinates and no lengths.
    """

    source: str
    node_ids: npt.NDArray[Any]  # (N,)
    u: IntArray  # (E,)
    v: IntArray  # (E,)
    longitude: FloatArray  # (N,) degrees
    latitude: FloatArray  # (N,) degrees
    length: FloatArray  # (E,) metres
    direction: IntArray | None = None  # (E,)


def embedded_names() -> list[str]:
    """The maps that ship with the package."""
    return sorted(path.stem for path in MAPS.glob("*.npz"))


def read_edges(source: str | Path) -> Edges:
    """Reads an embedded map, a file or a place. A ValueError says what is wrong, in one line."""
    if not isinstance(source, str | Path):
        raise ValueError(f"streets = {source!r}: expected a name, a file or a place")
    name = str(source)
    if not name.strip() or not name.isprintable():
        raise ValueError(f"streets = {name!r}: expected a name, a file or a place")
    if name in embedded_names():
        return _embedded(name)
    is_file = (
        isinstance(source, Path)
        or name.lower().endswith(SUFFIXES)
        or any(separator in name for separator in ("/", os.sep, os.altsep or os.sep))
        or os.path.exists(name)
    )
    return _read_file(Path(source)) if is_file else _read_place(name)


def _embedded(name: str) -> Edges:
    with np.load(MAPS / f"{name}.npz", allow_pickle=False) as table:
        return Edges(
            name,
            node_ids=table["node_ids"],
            u=table["u"].astype(np.int64),
            v=table["v"].astype(np.int64),
            longitude=table["longitude"] / 1e7,
            latitude=table["latitude"] / 1e7,
            length=table["length"] / 10,
        )


def _read_file(path: Path) -> Edges:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise ValueError(f"{path}: is a folder; expected a file: {', '.join(SUFFIXES)}")
        if not path.exists():
            raise ValueError(f"{path}: no such file")
        if suffix not in SUFFIXES:
            raise ValueError(f"{path}: unknown kind of file; expected {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise ValueError(f"{path}: is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: larger than {MAX_BYTES // 10**6} MB; cut out an area")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if suffix == ".csv":
        return _read_csv(path, data)
    parse = _parse_graphml if suffix == ".graphml" else _parse_osm_xml
    key = hashlib.sha256(suffix.encode() + data).hexdigest()
    return _cached_edges(str(path), key, lambda: parse(path, data))


def _read_csv(path: Path, data: bytes) -> Edges:
    """A table of exits with the header `node,direction,neighbour`, taken as it stands."""
    exits = _exits(path, data)
    found = {node for node, _ in exits} | {neighbour for neighbour, _ in exits.values()}
    # published sequences count nodes from 0: keep their numbers
    numeric = all(re.fullmatch(r"[0-9]{1,18}", node) for node in found)
    nodes = sorted(sorted(found), key=int) if numeric else sorted(found)  # 01 before 1
    index = {node: i for i, node in enumerate(nodes)}
    none = np.empty(0)
    return Edges(
        str(path),
        node_ids=_ids(str(path), nodes),
        u=np.array([index[node] for node, _ in exits]),
        v=np.array([index[neighbour] for neighbour, _ in exits.values()]),
        longitude=none,
        latitude=none,
        length=none,
        direction=np.array([direction for _, direction in exits]),
    )


def _exits(path: Path, data: bytes) -> dict[tuple[str, int], tuple[str, int]]:
    """(node, direction) -> the neighbour, and the line that says so. At least one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 text") from None
    header = ["node", "direction", "neighbour"]
    numbers = {text: k for k, name in enumerate(DIRECTIONS) for text in (name, str(k))}
    exits: dict[tuple[str, int], tuple[str, int]] = {}
    rows = csv.reader(io.StringIO(text, newline=None))
    try:
        columns = [cell.strip() for cell in next(rows, [])]
        if columns != header:
            raise ValueError(f"{path}, line 1: expected the header {','.join(header)}")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != 3 or not all(cell and cell.isprintable() for cell in cells):
                raise ValueError(f"{where}: expected a node, a direction and a neighbour")
            node, name, neighbour = cells
            if name.upper() not in numbers:
                names = ", ".join(DIRECTIONS)
                raise ValueError(f"{where}: direction {name!r}: expected {names} or 0 to 7")
            exit_ = (node, numbers[name.upper()])
            if exit_ in exits:
                line = exits[exit_][1]
                raise ValueError(f"{where}: node {node!r} already has an exit {name} (line {line})")
            exits[exit_] = (neighbour, rows.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: {error}") from None
    if not exits:
        raise ValueError(f"{path}: no exits; expected rows of {','.join(header)}")
    return exits


def _check_xml(path: Path, data: bytes, kind: str) -> None:
    """Neither kind of map declares entities, which may expand to gigabytes or read other files.

    In one piece and by expat alone: the readers of maps take minutes over some kinds of junk.
    """
    parser = expat.ParserCreate("utf-8")

    def refuse_entities(*_: object) -> None:
        raise ValueError(f"{path}: <!DOCTYPE is refused in a map; remove it")

    def check_encoding(version: str, encoding: str | None, standalone: int) -> None:
        if encoding and encoding.lower() not in ("utf-8", "us-ascii", "ascii"):
            raise ValueError(f"{path}: not UTF-8 text, but {encoding}")

    parser.StartDoctypeDeclHandler = refuse_entities
    parser.XmlDeclHandler = check_encoding
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").lstrip()
        # expat reads a text without markup to its end, seconds of it, before it says so
        parser.Parse(data if text.startswith("<") else data[:100], True)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    except expat.ExpatError as error:
        raise _malformed(path, kind, error) from None


def _parse_graphml(path: Path, data: bytes) -> Edges:
    _check_xml(path, data, GRAPHML)
    import osmnx

    try:
        graph = osmnx.load_graphml(graphml_str=data.decode("utf-8"))
    except Exception as error:  # networkx and osmnx raise anything on what they do not expect
        raise _malformed(path, GRAPHML, error) from None
    return read_graph(str(path), graph)


def _parse_osm_xml(path: Path, data: bytes) -> Edges:
    """osmnx.graph_from_xml knows no network type: filter by `highway`, and only then simplify."""
    _check_xml(path, data, OSM_XML)
    import networkx
    import osmnx

    try:
        graph = osmnx.graph_from_xml(path, simplify=False, retain_all=True)
        edges = graph.edges(keys=True, data="highway", default="")
        graph.remove_edges_from([(u, v, k) for u, v, k, road in edges if road not in DRIVABLE])
        graph.remove_nodes_from(list(networkx.isolates(graph)))
        if graph.number_of_edges() > 0:
            graph = osmnx.simplify_graph(graph)
    except Exception as error:  # as above
        raise _malformed(path, OSM_XML, error) from None
    return read_graph(str(path), graph)


def _malformed(path: Path, kind: str, error: Exception) -> ValueError:
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    return ValueError(f"{path}: not {kind}: {detail[:200]}")


def _read_place(place: str) -> Edges:
    """The drivable streets of a place, from OpenStreetMap's servers the first time."""
    key = hashlib.sha256(b"place" + place.encode()).hexdigest()
    return _cached_edges(place, key, lambda: _download(place))


def _download(place: str) -> Edges:
    import osmnx
    import requests

    close = difflib.get_close_matches(place.lower(), embedded_names(), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    try:
        with _osmnx_settings():
            graph = osmnx.graph_from_place(place, network_type="drive")
    except (requests.ConnectionError, requests.Timeout):
        raise ValueError(f"streets = {place!r}: {NO_NETWORK}{hint}") from None
    except Exception as error:  # osmnx raises TypeError, ValueError and its own for no such place
        detail = " ".join(f"{error}".split())[:200]
        raise ValueError(f"streets = {place!r}: no such place: {detail}{hint}") from None
    return read_graph(place, graph)


@contextmanager
def _osmnx_settings() -> Iterator[None]:
    import osmnx

    wanted = {
        "cache_folder": str(cache_dir() / "osmnx"),  # by default ./cache of the working directory
        "overpass_rate_limit": False,  # True pauses for a minute where there is no network
        "use_cache": True,
    }
    before = {name: getattr(osmnx.settings, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(osmnx.settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(osmnx.settings, name, value)


def read_graph(source: str, graph: Any) -> Edges:
    """The edges of an osmnx graph, checked: directed, degrees, lengths in metres."""
    if not (hasattr(graph, "is_directed") and graph.is_directed() and graph.is_multigraph()):
        raise ValueError(f"{source}: expected a directed multigraph, as osmnx makes it")
    if graph.number_of_nodes() == 0 or graph.number_of_edges() == 0:
        raise ValueError(f"{source}: the graph is empty: no drivable street in it")
    nodes = list(graph.nodes)
    index = {node: i for i, node in enumerate(nodes)}
    longitude = _numbers(source, "x", [(f"node {n}", x) for n, x in graph.nodes(data="x")])
    latitude = _numbers(source, "y", [(f"node {n}", y) for n, y in graph.nodes(data="y")])
    if abs(longitude).max() > 180 or abs(latitude).max() > 90:
        raise ValueError(f"{source}: coordinates are no degrees; save the map unprojected")
    edges = list(graph.edges(data="length"))
    lengths = [(f"edge {u} to {v}", length) for u, v, length in edges]
    length = _numbers(source, "length", lengths)
    if length.min() < 0:
        raise ValueError(f"{source}: {lengths[int(length.argmin())][0]}: negative length")
    return Edges(
        source,
        node_ids=_ids(source, [str(node) for node in nodes]),
        u=np.array([index[u] for u, _, _ in edges]),
        v=np.array([index[v] for _, v, _ in edges]),
        longitude=longitude,
        latitude=latitude,
        length=length,
    )


def _ids(source: str, nodes: list[str]) -> npt.NDArray[Any]:
    """Each takes as much memory as the longest one."""
    longest = max(nodes, key=len)
    if len(longest) > LONGEST_ID:
        raise ValueError(
            f"{source}: node {longest[:20]}...: its name has {len(longest):,} characters, expected "
            f"at most {LONGEST_ID}"
        )
    return np.array(nodes)


def _numbers(source: str, name: str, values: list[tuple[str, Any]]) -> FloatArray:
    numbers = np.empty(len(values))
    for i, (where, value) in enumerate(values):
        try:
            numbers[i] = float(value)
        except (TypeError, ValueError):
            numbers[i] = np.nan
        if not np.isfinite(numbers[i]):
            raise ValueError(f"{source}: {where}: {name} = {value!r}: expected a number")
    return numbers


def _cached_edges(source: str, key: str, read: Callable[[], Edges]) -> Edges:
    names = ("node_ids", "u", "v", "longitude", "latitude", "length")

    def compute() -> Arrays:
        edges = read()
        return {name: getattr(edges, name) for name in names}

    def valid(arrays: Arrays) -> bool:
        num_nodes, num_edges = len(arrays["node_ids"]), len(arrays["u"])
        expected = [num_nodes, num_edges, num_edges, num_nodes, num_nodes, num_edges]
        return [len(arrays[name]) for name in names] == expected

    return Edges(source, **cached_arrays(f"streets{CACHE_FORMAT}-{key}", compute, valid))
