"""Street maps against slow, independent constructions."""

import importlib.util
import math
import os
import pickle
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextlat_bench.tasks import _street_files
from nextlat_bench.tasks._streets import DIRECTIONS, StreetMap, direction_of

ROOT = Path(__file__).parents[1]
MANHATTAN = ROOT.parent / "shared/streets/manhattan.graphml"


def random_graph(seed, num_nodes=12):
    """A ring, so that nothing falls apart, and random streets, loops and parallel edges."""
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph(crs="epsg:4326")
    for node in range(num_nodes):
        x, y = rng.uniform([31.30, 30.05], [31.35, 30.10])
        graph.add_node(100 + node, x=float(x), y=float(y))
    pairs = [(i, (i + 1) % num_nodes) for i in range(num_nodes)]
    pairs += [(i, j) for j, i in pairs]
    pairs += rng.integers(num_nodes, size=(2 * num_nodes, 2)).tolist()
    for u, v in pairs:
        # few different lengths, so that ties occur
        graph.add_edge(100 + u, 100 + v, length=float(rng.integers(1, 5) * 50))
    return graph


def slow_table(graph):
    """(node, direction) -> (neighbour, length) of the largest component, by the textbook."""
    nodes = list(graph.nodes)
    options = defaultdict(list)
    for u, v, length in graph.edges(data="length"):
        if u == v:
            continue
        a, b = (
            (math.radians(graph.nodes[n]["x"]), math.radians(graph.nodes[n]["y"])) for n in (u, v)
        )
        bearing = math.degrees(
            math.atan2(
                math.sin(b[0] - a[0]) * math.cos(b[1]),
                math.cos(a[1]) * math.sin(b[1])
                - math.sin(a[1]) * math.cos(b[1]) * math.cos(b[0] - a[0]),
            )
        )
        name = DIRECTIONS[int(((bearing + 22.5) % 360) // 45)]
        options[u, name].append((length, nodes.index(v), v))
    exits = {key: min(found) for key, found in options.items()}
    simple = nx.DiGraph([(u, v) for (u, _), (_, _, v) in exits.items()])
    biggest = max(len(part) for part in nx.strongly_connected_components(simple))
    inside = min(
        (part for part in nx.strongly_connected_components(simple) if len(part) == biggest),
        key=lambda part: min(nodes.index(n) for n in part),
    )
    table = {
        (u, name): (v, length)
        for (u, name), (length, _, v) in exits.items()
        if u in inside and v in inside
    }
    return table, sum(map(len, options.values())) - len(exits), len(nodes) - len(inside)


def table_of(streets):
    return {
        (int(streets.node_ids[u]), DIRECTIONS[k]): (
            int(streets.node_ids[streets.neighbour[u, k]]),
            streets.length[u, k],
        )
        for u, k in zip(*np.nonzero(streets.exits), strict=True)
    }


@given(st.integers(0, 10**6), st.integers(3, 14))
@settings(max_examples=40)
def test_construction_equals_the_slow_one(seed, num_nodes):
    graph = random_graph(seed, num_nodes)
    table, same_direction, outside = slow_table(graph)
    if not table:
        with pytest.raises(ValueError, match="falls apart"):
            StreetMap.from_graph(graph)
        return
    streets = StreetMap.from_graph(graph)
    assert table_of(streets) == table
    assert streets.notes["same_direction"] == same_direction
    assert streets.notes["outside_component"] == outside
    assert streets.notes["self_loops"] == nx.number_of_selfloops(graph)
    assert (np.isnan(streets.length) == ~streets.exits).all()
    for node, x, y in zip(streets.node_ids, streets.longitude, streets.latitude, strict=True):
        assert (x, y) == (graph.nodes[int(node)]["x"], graph.nodes[int(node)]["y"])


def test_the_largest_component_not_the_first():
    graph = nx.MultiDiGraph()
    for node, (x, y) in enumerate([(0, 0), (1, 0), (5, 5), (6, 5), (6, 6)]):
        graph.add_node(node, x=x, y=y)
    nx.add_cycle(graph, [0, 1], length=1.0)
    nx.add_cycle(graph, [2, 3, 4], length=1.0)
    graph.add_edge(1, 2, length=1.0)
    streets = StreetMap.from_graph(graph)
    assert streets.node_ids.tolist() == ["2", "3", "4"]
    assert streets.notes["outside_component"] == 2
    assert streets.num_edges == 3


def test_of_components_as_large_the_one_with_the_first_node():
    graph = nx.MultiDiGraph()
    for node, (x, y) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        graph.add_node(node, x=x, y=y)
    for u, v in ((2, 3), (3, 2), (0, 1), (1, 0)):
        graph.add_edge(u, v, length=10.0)
    streets = StreetMap.from_graph(graph)
    assert streets.node_ids.tolist() == ["0", "1"]
    assert streets.notes["outside_component"] == 2


def test_directions_by_hand():
    # at 60 degrees north a degree of longitude is half as far as one of latitude
    steps = {"N": (0, 1), "NE": (2, 1), "E": (1, 0), "SE": (2, -1)}
    steps |= {"S": (0, -1), "SW": (-2, -1), "W": (-1, 0), "NW": (-2, 1)}
    for k, name in enumerate(DIRECTIONS):
        dx, dy = steps[name]
        x, y = np.array([10.0]), np.array([60.0])
        assert direction_of(x, y, x + dx * 0.001, y + dy * 0.001) == [k], name
    x, y = np.array([0.0]), np.array([0.0])
    for degrees, name in ((22.4, "N"), (22.6, "NE"), (337.4, "NW"), (337.6, "N")):
        angle = math.radians(degrees)
        got = direction_of(x, y, x + math.sin(angle) * 1e-3, y + math.cos(angle) * 1e-3)
        assert DIRECTIONS[got[0]] == name


def test_directions_agree_with_osmnx():
    bearing = pytest.importorskip("osmnx").bearing
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-80, 80, (2, 500)), rng.uniform(-80, 80, (2, 500))
    expected = bearing.calculate_bearing(a[1], a[0], b[1], b[0])
    assert (direction_of(*a, *b) == ((expected + 22.5) % 360 // 45)).all()


def test_the_embedded_map():
    path = Path(_street_files.__file__).parent / "maps/heliopolis.npz"
    assert path.stat().st_size < 200_000
    edges = _street_files.read_edges("heliopolis")
    assert (len(edges.node_ids), len(edges.u)) == (4153, 9270)
    whole = nx.DiGraph(zip(edges.u.tolist(), edges.v.tolist(), strict=True))
    assert nx.number_strongly_connected_components(whole) == 1
    assert edges.longitude.max() < 31.352
    streets = StreetMap.load("heliopolis")
    assert (streets.num_nodes, streets.num_edges) == (4148, 9187)
    assert streets.notes == {"self_loops": 0, "same_direction": 74, "outside_component": 5}
    assert streets.describe().startswith("heliopolis: 4,148 intersections, 9,187 exits")
    assert "\n" not in streets.describe()
    assert repr(streets) == f"<StreetMap {streets.describe()}>"
    assert (path.parent / "LICENSE-ODbL.md").read_text().count("(c) OpenStreetMap contributors")


def test_the_embedded_map_can_be_rebuilt():
    wheel = os.environ.get("NEXTLAT_BENCH_ROBIN_WHEEL", "")
    if not Path(wheel).is_file():
        pytest.skip("NEXTLAT_BENCH_ROBIN_WHEEL names no robin-logistics-env wheel")
    spec = importlib.util.spec_from_file_location("build_maps", ROOT / "scripts/build_maps.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    table = script.heliopolis(Path(wheel))
    with np.load(ROOT / "tasks/maps/heliopolis.npz") as shipped:
        assert set(shipped) == set(table)
        for name, values in table.items():
            assert values.dtype == shipped[name].dtype
            np.testing.assert_array_equal(values, shipped[name])


def test_a_map_is_a_value(tmp_path):
    streets = StreetMap.load("heliopolis")
    again = pickle.loads(pickle.dumps(streets))
    assert again == streets
    assert hash(again) == hash(streets)
    assert again != streets.crop(500)
    assert again != "heliopolis"
    parts = {field.name: getattr(streets, field.name) for field in fields(streets)}
    for name in ("neighbour", "length", "longitude", "latitude"):
        other = parts[name].copy()
        at = np.unravel_index(np.argmax(other >= 0), other.shape)
        other[at] = 0 if name == "neighbour" else other[at] + 1e-6
        assert StreetMap(**parts | {name: other}) != streets, name
    for values in (streets.neighbour, streets.length, streets.longitude, streets.latitude):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    assert StreetMap.load(streets.reference()) == streets
    with pytest.raises(ValueError, match="the map changed"):
        StreetMap.load(streets.crop(500).reference())


@pytest.mark.parametrize("radius", [300, 600.0, 10**6])
def test_crop(radius):
    streets = StreetMap.load("heliopolis")
    small = streets.crop(radius)
    assert small.source == streets.source
    x, y = np.radians(streets.longitude), np.radians(streets.latitude)
    cx, cy = np.median(x), np.median(y)
    haversine = np.sin((y - cy) / 2) ** 2 + np.cos(y) * np.cos(cy) * np.sin((x - cx) / 2) ** 2
    within = 2 * 6_371_009 * np.arcsin(np.sqrt(haversine)) <= radius
    assert small.notes["outside_radius"] == (~within).sum()
    assert set(small.node_ids.tolist()) <= set(streets.node_ids[within].tolist())
    inside = set(small.node_ids.tolist())
    expected = {
        key: value
        for key, value in table_of(streets).items()
        if key[0] in inside and value[0] in inside
    }
    assert table_of(small) == expected
    assert (small.hops() >= 0).all() if small.num_nodes < 500 else small == streets
    near = streets.num_nodes - small.notes["outside_radius"]
    component = small.notes["outside_component"] - streets.notes["outside_component"]
    assert near - component == small.num_nodes


def test_crop_refuses():
    streets = StreetMap.load("heliopolis")
    for radius in (0, -5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="radius"):
            streets.crop(radius)
    with pytest.raises(ValueError, match=r"falls apart|no intersection"):
        streets.crop(1)


@given(st.integers(0, 10**6), st.integers(5, 14))
@settings(max_examples=15)
def test_shortest_paths_against_networkx(seed, num_nodes):
    graph = random_graph(seed, num_nodes)
    for _, _, data in list(graph.edges(data=True))[::7]:
        data["length"] = 0.0
    streets = StreetMap.from_graph(graph)
    plain = nx.DiGraph()
    for u, k in zip(*np.nonzero(streets.exits), strict=True):
        length = streets.length[u, k]
        plain.add_edge(int(u), int(streets.neighbour[u, k]), length=length)
    hops = dict(nx.all_pairs_shortest_path_length(plain))
    metres = dict(nx.all_pairs_dijkstra_path_length(plain, weight="length"))
    first = streets.shortest_turns()
    for origin in range(streets.num_nodes):
        for destination in range(streets.num_nodes):
            assert streets.hops()[origin, destination] == hops[origin][destination]
            node, total, steps = origin, 0.0, 0
            while node != destination:
                turn = first[node, destination]
                node, total = streets.neighbour[node, turn], total + streets.length[node, turn]
                steps += 1
                assert steps < streets.num_nodes
            assert first[destination, destination] == -1
            assert total == pytest.approx(metres[origin][destination])


def test_tables_of_all_pairs_are_cached_and_survive_damage(monkeypatch, tmp_path):
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", str(tmp_path))
    streets = StreetMap.load("heliopolis").crop(1000)
    assert streets.num_nodes > 500
    hops = streets.hops()
    assert streets.hops() is hops
    (file,) = tmp_path.iterdir()
    assert streets.digest in file.name
    for damage in (b"", b"nonsense", file.read_bytes()[:-5000], file.read_bytes()[:5000]):
        file.write_bytes(damage)
        fresh = pickle.loads(pickle.dumps(streets))
        np.testing.assert_array_equal(fresh.hops(), hops)
    np.savez(file, other=hops)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(streets)).hops(), hops)
    np.savez(file, hops=hops + np.int16(7))
    assert (pickle.loads(pickle.dumps(streets)).hops() == hops + 7).all(), "the cache is not read"
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_only_costs_time(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert (StreetMap.load("heliopolis").crop(1000).hops() >= 0).all()


def test_a_cache_in_nobodys_home(monkeypatch):
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(ValueError, match="NEXTLAT_BENCH_CACHE = '~nobody-of-this-name/cache'"):
        StreetMap.load("heliopolis").crop(1000).hops()


def test_too_many_nodes_for_all_pairs(monkeypatch):
    monkeypatch.setattr("nextlat_bench.tasks._streets.MAX_NODES", 10)
    with pytest.raises(ValueError, match="crop the map"):
        StreetMap.load("heliopolis").hops()


def test_manhattan():
    if not MANHATTAN.exists():
        pytest.skip("shared/streets/manhattan.graphml is not beside this checkout")
    edges = _street_files.read_edges(MANHATTAN)
    graph = nx.DiGraph(zip(edges.u.tolist(), edges.v.tolist(), strict=True))
    assert len(edges.node_ids) == 4607
    assert max(map(len, nx.strongly_connected_components(graph))) == 4519
    streets = StreetMap.load(MANHATTAN)
    assert (streets.num_nodes, streets.num_edges) == (4486, 9568)
    again = StreetMap.load(MANHATTAN)
    assert again == streets


def test_graphs_in_memory():
    for graph in (None, nx.Graph(), nx.DiGraph(), nx.MultiGraph([(1, 2)])):
        with pytest.raises(ValueError, match="directed multigraph"):
            StreetMap.from_graph(graph)
    with pytest.raises(ValueError, match="the graph is empty"):
        StreetMap.from_graph(nx.MultiDiGraph())
    with pytest.raises(ValueError, match="save it as GraphML"):
        StreetMap.load(StreetMap.from_graph(random_graph(1)).reference())
