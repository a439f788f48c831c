"""Every kind of map file, and every way one can be wrong: a single clear line."""

import csv
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from nextlat_bench.tasks import _street_files
from nextlat_bench.tasks._streets import DIRECTIONS, StreetMap


def ring(seed=0):
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph(crs="epsg:4326")
    for node, (x, y) in enumerate(
        rng.uniform([31.30, 30.05], [31.35, 30.10], size=(6, 2)).tolist()
    ):
        graph.add_node(100 + node, x=x, y=y)
    nx.add_cycle(graph, list(graph), length=12.5)
    return graph


def test_graphml_round_trip(tmp_path, monkeypatch):
    osmnx = pytest.importorskip("osmnx")
    graph = ring()
    path = tmp_path / "town.graphml"
    osmnx.save_graphml(graph, path)
    streets = StreetMap.load(path)
    assert streets == StreetMap.from_graph(graph)
    assert streets == StreetMap.load(str(path))
    assert streets.source == str(path)
    monkeypatch.setattr(osmnx, "load_graphml", None)
    assert StreetMap.load(path) == streets, "the second load needs no osmnx"


WAYS = [
    ("residential", [1, 2, 3], ""),
    ("residential", [4, 5, 6], '<tag k="oneway" v="yes"/>'),
    ("tertiary", [7, 8, 9], ""),
    ("residential", [1, 4, 7], ""),
    ("residential", [2, 5, 8], ""),
    ("primary_link", [3, 6, 9], ""),
    ("footway", [1, 5], ""),
]


def osm_xml(ways=WAYS):
    """A grid of nine nodes, 1 in the north-west; its corners are no intersections."""
    nodes = [
        f'<node id="{i + 1}" lat="{30.002 - i // 3 * 0.001}" lon="{31 + i % 3 * 0.001}" '
        'version="1" visible="true"/>'
        for i in range(9)
    ]
    ways = [
        f'<way id="{100 + i}" version="1" visible="true">'
        + "".join(f'<nd ref="{node}"/>' for node in way)
        + f'<tag k="highway" v="{highway}"/>{more}</way>'
        for i, (highway, way, more) in enumerate(ways)
    ]
    body = "\n".join([*nodes, *ways])
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<osm version='0.6'>\n{body}\n</osm>\n"


@pytest.mark.parametrize("suffix", [".osm", ".xml"])
def test_osm_xml(tmp_path, suffix):
    path = tmp_path / f"grid{suffix}"
    path.write_text(osm_xml())
    streets = StreetMap.load(path)
    assert sorted(streets.node_ids.tolist()) == ["2", "4", "5", "6", "8"]
    ids = streets.node_ids.astype(int)
    exits = {
        (ids[u], DIRECTIONS[k]): ids[streets.neighbour[u, k]]
        for u, k in zip(*np.nonzero(streets.exits), strict=True)
    }
    assert exits == {
        (2, "SW"): 4,
        (2, "SE"): 6,
        (2, "S"): 5,
        (4, "NE"): 2,
        (4, "SE"): 8,
        (4, "E"): 5,
        (6, "NW"): 2,
        (6, "SW"): 8,  # the middle street is one-way, eastwards
        (8, "NW"): 4,
        (8, "NE"): 6,
        (8, "N"): 5,
        (5, "N"): 2,
        (5, "E"): 6,
        (5, "S"): 8,
    }
    corner = streets.length[streets.node_ids.tolist().index("2"), DIRECTIONS.index("SW")]
    assert corner == pytest.approx(111.2 + 111.2 * math.cos(math.radians(30)), rel=0.01)


def test_a_file_that_changed_is_another_map(tmp_path):
    """Without the northern street its three nodes are dead ends. The same bytes are no GraphML."""
    path = tmp_path / "grid.osm"
    path.write_text(osm_xml())
    before = StreetMap.load(path)
    path.write_text(osm_xml(WAYS[1:]))
    after = StreetMap.load(path)
    assert (before.num_nodes, after.num_nodes) == (5, 7)
    path.write_text(osm_xml())
    assert StreetMap.load(path) == before
    with pytest.raises(ValueError, match="not GraphML"):
        StreetMap.load(path.rename(tmp_path / "grid.graphml"))


def test_csv_is_taken_as_it_stands(tmp_path):
    path = tmp_path / "map.csv"
    rows = [(10, "N", 2), (2, "s", 10), (2, "0", 2), (10, 3, 11), (0, "NW", 2)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("node", "direction", "neighbour"), *rows])
    streets = StreetMap.load(path)
    assert streets.node_ids.tolist() == ["0", "2", "10", "11"], "in numerical order"
    exits = {
        (int(u), DIRECTIONS[k]): int(streets.neighbour[u, k])
        for u, k in zip(*np.nonzero(streets.exits), strict=True)
    }
    assert exits == {(2, "N"): 1, (1, "S"): 2, (1, "N"): 1, (2, "SE"): 3, (0, "NW"): 1}
    assert streets.notes == {"dead_ends": 1, "self_loops": 1}
    assert streets.longitude is None
    assert not streets.has_lengths
    assert streets.hops().tolist() == [[0, 1, 2, 3], [-1, 0, 1, 2], [-1, 1, 0, 1], [-1, -1, -1, 0]]
    with pytest.raises(ValueError, match="without coordinates"):
        streets.crop(100)
    with pytest.raises(ValueError, match="no lengths"):
        streets.shortest_turns()


def test_one_number_written_in_two_ways(tmp_path):
    """It is two nodes, whose order no hash of texts decides."""
    names = [f"{'0' * zeros}7" for zeros in range(9)]
    path = tmp_path / "map.csv"
    path.write_text(HEADER + "".join(f"{name},N,8\n" for name in reversed(names)))
    assert StreetMap.load(path).node_ids.tolist() == [*sorted(names), "8"]


HEADER = "node,direction,neighbour\n"
GRAPHML = (
    "<?xml version='1.0' encoding='utf-8'?>\n"
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
    '<key id="x" for="node" attr.name="x" attr.type="{kind}"/>\n'
    '<key id="y" for="node" attr.name="y" attr.type="{kind}"/>\n'
    '<key id="l" for="edge" attr.name="length" attr.type="string"/>\n'
    '<graph edgedefault="{edges}">{body}</graph></graphml>\n'
)
NODES = (
    '<node id="1"><data key="x">{x}</data><data key="y">30</data></node>'
    '<node id="2"><data key="x">31.1</data><data key="y">{y}</data></node>'
)
EDGES = (
    '<edge source="1" target="2" id="0">{length}</edge>'
    '<edge source="2" target="1" id="0"><data key="l">7</data></edge>'
)
LENGTH = '<data key="l">7.5</data>'


def graphml(kind="string", edges="directed", x=31, y=30.1, length=LENGTH, body=None):
    body = (NODES + EDGES).format(x=x, y=y, length=length) if body is None else body
    return GRAPHML.format(kind=kind, edges=edges, body=body)


MALFORMED = {
    "empty.csv": ("", "line 1: expected the header"),
    "header.csv": ("node,neighbour\n1,2\n", "line 1: expected the header"),
    "headless.csv": ("1,N,2\n", "line 1: expected the header"),
    "rowless.csv": (HEADER, "no exits"),
    "short.csv": (HEADER + "1,N,2\n1,E\n", "line 3: expected a node, a direction"),
    "long.csv": (HEADER + "1,N,2,9\n", "line 2: expected a node, a direction"),
    "blank.csv": (HEADER + "1,N,\n", "line 2: expected a node, a direction"),
    "direction.csv": (HEADER + "1,north,2\n", "line 2: direction 'north'"),
    "number.csv": (HEADER + "1,8,2\n", "line 2: direction '8'"),
    "negative.csv": (HEADER + "1,-1,2\n", "line 2: direction '-1'"),
    "twice.csv": (
        HEADER + "1,N,2\n\n1,n,3\n",
        r"line 4: node '1' already has an exit n \(line 2\)",
    ),
    "alone.csv": (HEADER + "1,N,1\n", "falls apart"),
    "binary.csv": (HEADER.encode() + b"1,N,2\n\xff\xfe", "line 3: not UTF-8"),
    "nul.csv": (HEADER + "1,N,\0\n", "line 2: expected a node, a direction"),
    "huge.csv": (HEADER + "1,N," + "9" * 200_000, "line 2"),
    "empty.graphml": ("", "not GraphML"),
    "cut.graphml": (graphml()[:-40], "not GraphML.*line 6"),
    "other.graphml": ("<html></html>", "not GraphML"),
    "json.graphml": ("{}", "not GraphML.*line 1"),
    "nodeless.graphml": (graphml(body=""), "the graph is empty|not GraphML"),
    "edgeless.graphml": (graphml(body=NODES.format(x=31, y=30)), "the graph is empty"),
    "undirected.graphml": (graphml(edges="undirected"), "expected a directed"),
    "nan.graphml": (graphml(x="nan"), "node 1: x = nan"),
    "infinite.graphml": (graphml(y="inf"), "node 2: y = inf"),
    "word.graphml": (graphml(x="west"), "not GraphML.*west"),
    "nowhere.graphml": (
        graphml(body='<node id="1"/><node id="2"/>' + EDGES.format(length=LENGTH)),
        "node 1: x = None",
    ),
    "lengthless.graphml": (graphml(length=""), "edge 1 to 2: length = None"),
    "negative.graphml": (graphml(length='<data key="l">-7</data>'), "edge 1 to 2: negative"),
    "projected.graphml": (graphml(x=331000.5), "no degrees"),
    "letters.graphml": (graphml().replace('id="1"', 'id="one"'), "not GraphML"),
    "key.graphml": (graphml().replace('key="x"', 'key="z"'), "not GraphML"),
    "apart.graphml": (
        graphml(
            body=NODES.format(x=31, y=30) + '<edge source="1" target="2" id="0">'
            '<data key="l">7</data></edge>'
        ),
        "falls apart",
    ),
    "bomb.graphml": (
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + graphml(),
        "DOCTYPE is refused",
    ),
    "late_bomb.osm": (" " * 100_000 + '<!DOCTYPE osm [<!ENTITY a "a">]><osm/>', "is refused"),
    "wide.osm": (osm_xml().encode("utf-16"), "not UTF-8"),
    "latin.osm": ("<?xml version='1.0' encoding='cp037'?><osm/>", "not UTF-8"),
    "bytes.osm": (b"<osm>\xff</osm>", "not UTF-8"),
    "empty.osm": ("", "not OSM XML"),
    "cut.osm": (osm_xml()[:-200], "not OSM XML.*line 17"),
    "other.osm": ("<gpx/>", "not OSM XML|empty"),
    "wayless.osm": (osm_xml([]), "not OSM XML|empty"),
    "footpath.osm": (osm_xml(WAYS[-1:]), "no drivable street"),
    "oneway.osm": (osm_xml(WAYS[1:2]), "falls apart"),
    "dangling.osm": (osm_xml([("residential", [1, 99], "")]), "not OSM XML"),
    "coordinates.osm": (osm_xml().replace("30.002", "north"), "not OSM XML"),
    "map.txt": ("", "unknown kind of file"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.filterwarnings("ignore")
def test_malformed_files_are_one_clear_line(tmp_path, name):
    content, message = MALFORMED[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        StreetMap.load(str(path))
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["town.graphml", "town.osm", "town.csv"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_load_or_are_one_clear_line(tmp_path, name):
    table = HEADER + "0,N,1\n1,S,0\n1,3,2\n2,E,0\n"
    content = {".graphml": graphml(), ".osm": osm_xml(), ".csv": table}[Path(name).suffix].encode()
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(300):
        damaged = bytearray(content)
        i, j = rng.integers(len(content), size=2)
        if rng.random() < 0.5:
            damaged[i] = rng.choice(bytearray(b'<>"&;=/09-.e,\n'))
        else:
            damaged[i:i] = damaged[j : j + 30]
        (tmp_path / name).write_bytes(damaged)
        try:
            StreetMap.load(tmp_path / name)
        except ValueError as error:
            refused.append(error)
    assert 0 < len(refused) < 300
    assert {type(error) for error in refused} == {ValueError}
    assert all(name in str(error) and "\n" not in str(error) for error in refused)


def test_the_template_of_malformed_graphml_is_itself_fine(tmp_path):
    path = tmp_path / "fine.graphml"
    path.write_text(graphml())
    assert StreetMap.load(path).num_edges == 2


def test_no_such_file(tmp_path):
    for source in (tmp_path / "a.csv", str(tmp_path / "town"), "town.osm", "./town", Path("town")):
        with pytest.raises(ValueError, match="no such file"):
            StreetMap.load(source)
    with pytest.raises(ValueError, match="is a folder"):
        StreetMap.load(str(tmp_path))
    (tmp_path / "x.osm").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        StreetMap.load(tmp_path / "x.osm")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    path = tmp_path / "large.osm"
    path.write_text(osm_xml())
    monkeypatch.setattr(_street_files, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="larger than"):
        StreetMap.load(path)


@pytest.mark.parametrize(
    "source", ["", "  ", "a\nb", "a\0b", None, 3, {}, {"source": "heliopolis"}]
)
def test_what_is_no_source(source):
    with pytest.raises(ValueError, match="streets = "):
        StreetMap.load(source)


def test_places(monkeypatch, cache):
    osmnx = pytest.importorskip("osmnx")
    requests = pytest.importorskip("requests")
    asked, replies = [], []

    def answer(place, network_type):
        asked.append((place, network_type, osmnx.settings.cache_folder))
        assert not osmnx.settings.overpass_rate_limit, "it waits a minute without a network"
        reply = replies.pop()
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(osmnx, "graph_from_place", answer)
    before = osmnx.settings.cache_folder
    for error in (requests.ConnectionError("a\nb"), requests.Timeout()):
        replies += [error, error]
        with pytest.raises(ValueError, match="no network: use --streets heliopolis") as caught:
            StreetMap.load("heliopols")
        assert "did you mean 'heliopolis'?" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"GraphML file$"):
            StreetMap.load("Manhattan, New York City, New York, USA")
    replies.append(TypeError("Nominatim did not geocode\nquery"))
    with pytest.raises(ValueError, match=r"no such place: Nominatim did not geocode query$"):
        StreetMap.load("Atlantis")
    replies.append(ring())
    streets = StreetMap.load("Heliopolis, Cairo")
    assert streets == StreetMap.from_graph(ring())
    assert asked[-1] == ("Heliopolis, Cairo", "drive", str(cache / "osmnx"))
    assert osmnx.settings.cache_folder == before
    count = len(asked)
    assert StreetMap.load("Heliopolis, Cairo") == streets
    assert len(asked) == count, "a place is asked for once"
    replies.append(ring(1))
    assert StreetMap.load("Alexandria") != streets
    assert asked[-1][0] == "Alexandria"
