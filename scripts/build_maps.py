"""Builds the street maps that ship with the package, in tasks/maps/.

    python scripts/build_maps.py [WHEEL] [--out tasks/maps]

The source is the wheel robin-logistics-env 3.3.0: without a WHEEL pip downloads it. Only its two
CSV tables are read. The same wheel gives the same bytes (NumPy's zip members carry no date).
"""

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

WHEEL = "robin-logistics-env==3.3.0"
SHA256 = "64c1b551555ec857970e20625cef2dad8784dfd5b3602cb4f155bf395a824c93"
EAST = 31.352  # degrees: east of it lie other districts
NUM_NODES, NUM_EDGES = 4153, 9270


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    return next(folder.glob("*.whl"))


def heliopolis(wheel: Path) -> dict[str, np.ndarray]:
    """The largest strongly connected component west of EAST, as compact integers."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{wheel}: sha256 is {digest}, not {SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        tables = [archive.open(f"robin_logistics/data/{name}.csv") for name in ("nodes", "edges")]
        rows, roads = (list(csv.DictReader(io.TextIOWrapper(t, encoding="utf-8"))) for t in tables)
    nodes = {int(r["node_id"]): (float(r["longitude"]), float(r["latitude"])) for r in rows}
    ids = np.array(sorted(i for i, (longitude, _) in nodes.items() if longitude < EAST))
    index = {int(node): i for i, node in enumerate(ids)}
    edges = [
        (index[int(r["u"])], index[int(r["v"])], float(r["length"]))
        for r in roads
        if int(r["u"]) in index and int(r["v"]) in index
    ]
    u, v, length = (np.array(column) for column in zip(*sorted(edges), strict=True))

    graph = csr_array((np.ones(len(u)), (u, v)), shape=(len(ids), len(ids)))
    component = connected_components(graph, connection="strong")[1]
    inside = component == np.bincount(component).argmax()
    kept = inside[u] & inside[v]
    number = np.cumsum(inside) - 1
    assert (inside.sum(), kept.sum()) == (NUM_NODES, NUM_EDGES)
    coordinates = np.array([nodes[int(node)] for node in ids[inside]])
    longitude, latitude = np.round(coordinates * 1e7).astype(np.int32).T
    return {
        "node_ids": ids[inside],
        "longitude": longitude,  # 1e-7 degrees, OpenStreetMap's own resolution
        "latitude": latitude,
        "u": number[u[kept]].astype(np.uint16),
        "v": number[v[kept]].astype(np.uint16),
        "length": np.round(length[kept] * 10).astype(np.uint16),  # decimetres
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the street maps that ship in tasks/maps.")
    parser.add_argument("wheel", nargs="?", type=Path, help=f"the wheel of {WHEEL}")
    default = Path(__file__).parents[1] / "tasks" / "maps"
    parser.add_argument("--out", type=Path, default=default, help="where the maps go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = heliopolis(arguments.wheel or download(Path(folder)))
    path = arguments.out / "heliopolis.npz"
    np.savez_compressed(path, **table)
    data = path.read_bytes()
    print(f"{path}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
