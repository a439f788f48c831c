"""Files and run folders in every wrong state, made by name: `make("fifo.csv", folder)`."""

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report_records import TAXI, record

from nextlat_bench.run_dir import RunDir

__all__ = [
    "DRAWN",
    "MEASURED",
    "PLACES",
    "STATES",
    "UNFINISHED",
    "UNFIT",
    "UNTRAINED",
    "Places",
    "make",
]

MEGABYTES = 50

Maker = Callable[[Path], object]


def junk(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content * (MEGABYTES * 10**6 // len(content)))


def holding(content: str | bytes) -> Maker:
    return lambda path: path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def changed(name: str, how: Maker) -> Maker:
    """A copy of the finished run with something done to one of its files."""

    def make(path: Path) -> None:
        shutil.copytree(os.environ["FINISHED_RUN"], path)
        target = path / name
        target.unlink(missing_ok=True)
        how(target)

    return make


def edited(name: str, **entries: Any) -> Maker:
    """The same with entries of a JSON file replaced, or taken out where they are None."""

    def make(path: Path) -> None:
        shutil.copytree(os.environ["FINISHED_RUN"], path)
        value = json.loads((path / name).read_text()) | entries
        kept = {key: entry for key, entry in value.items() if entry is not None}
        (path / name).write_text(json.dumps(kept))

    return make


def nothing(path: Path) -> None:
    """The file is missing."""


def under_its_id(maker: Maker) -> Maker:
    """A folder of run folders, the finished run's among them."""

    def make(path: Path) -> None:
        path.mkdir()
        maker(path / Path(os.environ["FINISHED_RUN"]).name)

    return make


def half_trained(**damage: str) -> Maker:
    """Interrupted training with one checkpoint, whose files are replaced."""

    def make(path: Path) -> None:
        shutil.copytree(os.environ["FINISHED_RUN"], path)
        for name in ("model.safetensors", "trained.json", "records.jsonl", "DONE"):
            (path / name).unlink()
        checkpoint = path / "checkpoints" / "00000001"
        checkpoint.mkdir(parents=True)
        for name, content in damage.items():
            (checkpoint / name.replace("_", ".")).write_text(content)

    return make


def hostile_state(content: bytes) -> Maker:
    """Interrupted training whose checkpoint has right digests, and a state.pt of this content."""

    def make(path: Path) -> None:
        half_trained()(path)
        weights = (Path(os.environ["FINISHED_RUN"]) / "model.safetensors").read_bytes()
        RunDir(path).save_checkpoint(1, {"model.safetensors": weights, "state.pt": content})

    return make


def unknown_kind(path: Path) -> None:
    """Weights with the digest that they should have, of a kind of number that torch lacks."""
    header = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    content = struct.pack("<Q", len(header)) + header + b"x"
    edited("trained.json", model_sha256=hashlib.sha256(content).hexdigest())(path)
    (path / "model.safetensors").write_bytes(content)


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("unpickled",)


NOISE = np.random.default_rng(0).bytes(10**6)
DEEP = '{"a":' * 600 + "1" + "}" * 600
RECORD = json.dumps({"schema": 1, "run": "r"})
Places = dict[str, tuple[Maker, str]]  # name -> how it is made, what must be said
STATES: Places = {
    "empty-run": (Path.mkdir, "run.json does not exist"),
    "no-json": (changed("run.json", nothing), "run.json does not exist"),
    "empty-json": (changed("run.json", Path.touch), "run.json is damaged"),
    "cut-json": (changed("run.json", holding('{"schema": 1,')), "run.json is damaged"),
    "list-json": (changed("run.json", holding("[]")), "run.json is damaged"),
    "latin-json": (changed("run.json", holding(b"\xff\xfe{}")), "run.json is damaged"),
    "nul-json": (changed("run.json", holding(b"\0" * 9)), "run.json is damaged"),
    "deep-json": (changed("run.json", holding("[" * 10**6)), "run.json is damaged"),
    "digits-json": (changed("run.json", holding("9" * 10_000)), "run.json is damaged"),
    "junk-json": (changed("run.json", junk(NOISE)), "run.json is damaged"),
    "folder-json": (changed("run.json", Path.mkdir), "is not a regular file"),
    "fifo-json": (changed("run.json", os.mkfifo), "is not a regular file"),
    "newer-run": (edited("run.json", schema=2), "schema 2, this version reads 1"),
    "no-schema": (edited("run.json", schema=None), "schema None"),
    "no-task": (edited("run.json", task=None), "task is missing"),
    "text-task": (edited("run.json", task="taxi"), "task is missing, or no dict"),
    "no-training": (edited("run.json", training=None), "training is missing"),
    "text-seed": (edited("run.json", seed="0"), "seed is missing, or no int"),
}
HALVES: Places = {
    "no-model": (changed("model.safetensors", nothing), "model.safetensors is missing: restore it"),
    "no-trained": (changed("trained.json", nothing), "trained.json is missing: restore it"),
}
OTHER: Places = {
    "other-run": (edited("run.json", seed=7), "run.json is of another run than the one"),
}
UNTRAINED: Places = {
    **HALVES,
    "cut-model": (changed("model.safetensors", holding(b"cut")), "model.safetensors is damaged"),
    "fifo-model": (changed("model.safetensors", os.mkfifo), "is not a regular file"),
    "folder-model": (changed("model.safetensors", Path.mkdir), "is not a regular file"),
    "cut-trained": (changed("trained.json", holding("{")), "trained.json is damaged"),
    "bad-steps": (edited("run.json", training={"steps": 0}), "Training.__init__() missing"),
    **OTHER,
    "bad-field": (edited("run.json", decoder={"layers": 0}), "DecoderConfig.layers = 0"),
    "unknown-task": (
        edited("run.json", task={"name": "taxy", "parameters": {}}),
        "did you mean 'taxi'",
    ),
}
MAP = "map_reconstruction.json"
EDGES: dict[str, object] = {"true_edges": [], "false_edges": []}
EDGES |= {"run": "r", "source": "", "nodes": [[31.0, 30.0]], "streets": [[0, 1]]}
UNFIT: Places = {"odd-numbers": (unknown_kind, "does not fit the run beside it")}
DRAWN: Places = {
    "cut-map": (changed(MAP, holding("{")), f"{MAP} is damaged"),
    "empty-map": (changed(MAP, holding("{}")), "run is missing"),
    "no-node": (changed(MAP, holding(json.dumps(EDGES))), "an edge [0, 1]: expected two of its 1"),
    "no-place": (
        changed(MAP, holding(json.dumps(EDGES | {"nodes": [[31.0], [31.0]]}))),
        "a node [31.0]: expected longitude and latitude",
    ),
    "odd-edge": (changed(MAP, holding(json.dumps(EDGES | {"streets": [[[0], [0]]]}))), "an edge"),
    "far-place": (
        changed(MAP, holding(json.dumps(EDGES | {"streets": []}).replace("31.0", "1e999"))),
        "a node [inf, 30.0]",
    ),
    "no-nodes": (
        changed(MAP, holding(json.dumps(EDGES | {"nodes": [], "streets": []}))),
        "it has no nodes",
    ),
    "fifo-map": (changed(MAP, os.mkfifo), "is not a regular file"),
    "far-step": (
        changed("metrics.jsonl", holding(f'{{"step": {10**400}, "next_token": 1.0}}')),
        "metrics.jsonl is damaged",
    ),
}
MEASURED: Places = {
    "cut-records": (changed("records.jsonl", holding(RECORD[:-1])), "records.jsonl, line 1"),
    "fifo-records": (changed("records.jsonl", os.mkfifo), "is not a regular file"),
    "two-records": (
        changed("records.jsonl", holding(f"{record().line}\n{record(value=0.91).line}")),
        "two different records of trajectories legal",
    ),
    "junk-records": (changed("records.jsonl", junk(NOISE)), "records.jsonl, line 1"),
}
UNFINISHED: Places = {
    "fifo-lock": (changed(".lock", os.mkfifo), ".lock is not a regular file: remove it"),
    "link-lock": (
        changed(".lock", lambda path: path.symlink_to("model.safetensors")),
        ".lock is not a regular file: remove it",
    ),
    "link-log": (
        changed("metrics.jsonl", lambda path: path.symlink_to("elsewhere")),
        "metrics.jsonl is not a regular file: remove it",
    ),
    "code-state": (hostile_state(pickle.dumps(Code())), "state.pt holds no tensors"),
    "empty-state": (hostile_state(b""), "state.pt holds no tensors"),
    "no-manifest": (half_trained(), "incomplete: restore it, or delete the run folder"),
    "cut-manifest": (half_trained(manifest_json="{"), "is incomplete"),
    "odd-manifest": (half_trained(manifest_json='{"step": "1", "sha256": []}'), "is incomplete"),
    "endless": (
        half_trained(manifest_json='{"step": 1, "sha256": {"/dev/zero": ""}}'),
        "is incomplete",
    ),
    "newer-checkpoint": (
        half_trained(manifest_json='{"schema": 2, "step": 1, "sha256": {}}'),
        "has schema 2, this version reads 1",
    ),
}
PLACES: dict[str, Maker] = {
    "a-file": holding("not a folder\n"),
    "a-folder": Path.mkdir,
    "a-fifo": os.mkfifo,
    "a-loop": lambda path: path.symlink_to(path.name),
    "folder.osm": Path.mkdir,
    "folder.npz": Path.mkdir,
    "folder.png": Path.mkdir,
    "fifo.csv": os.mkfifo,
    "fifo.graphml": os.mkfifo,
    "loop.graphml": lambda path: path.symlink_to(path.name),
    "arrays.npz": lambda path: np.savez(path, u=np.zeros(3)),
    "objects.npz": lambda path: np.savez(path, u=np.array([{}], object), allow_pickle=True),
    "latin.csv": holding(b"node,direction,neighbour\n\xe9,N,2\n"),
    "nul.graphml": holding(b"<graphml>\0</graphml>"),
    "deep.graphml": holding("<a>" * 200_000),
    "laughs.osm": holding('<!DOCTYPE osm [<!ENTITY a "ha">]><osm>&a;</osm>'),
    "junk.csv": junk(NOISE),
    "junk.osm": junk(NOISE),
    "junk.graphml": junk(NOISE),
    "letters.graphml": junk(b"a"),
    "letters.osm": junk(b"a"),
    "blank.graphml": junk(b" "),
    "lines.csv": junk(b"1,N,2\n"),
    "cut.jsonl": holding(RECORD[:-1]),
    "short.jsonl": holding(RECORD),
    "list.jsonl": holding("[1]"),
    "newer.jsonl": holding('{"schema": 2}'),
    "latin.jsonl": holding(b"\xff\xfe"),
    "deep.jsonl": holding("[" * 10**6),
    "digits.jsonl": holding("9" * 10_000),
    "nested.jsonl": holding(record(task_parameters={"a": "DEEP"}).line.replace('"DEEP"', DEEP)),
    "whole.jsonl": holding(record(n=777_777).line.replace("777777", "9" * 400)),
    "radius.jsonl": holding(
        record(task_parameters=TAXI | {"radius": 777_777}).line.replace("777777", "9" * 400)
    ),
    "value.jsonl": holding(record(value=777_777).line.replace("777777.0", "9" * 400)),
    "command.jsonl": holding(record().line.replace("nextlat", "\\u001b]0;title\\u0007")),
    "broken.jsonl": holding(record().line.replace("nextlat", "a\\n\\nb")),
    "half.jsonl": holding(record().line.replace("nextlat", "\\ud800")),
    "longname.csv": holding(f"node,direction,neighbour\n1,N,{'x' * 101}\n"),
    "outside.jsonl": holding(record(task="../outside").line),
    "junk.jsonl": junk(NOISE),
    "letters.jsonl": junk(b"a"),
    **{name: maker for name, (maker, _) in (STATES | UNTRAINED | UNFIT | MEASURED | DRAWN).items()},
    **{f"{name}-out": under_its_id(m) for name, (m, _) in (STATES | UNFINISHED | HALVES).items()},
}


def make(name: str, folder: Path) -> None:
    PLACES[name](folder / name)
