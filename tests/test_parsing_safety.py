"""No file that a user names can run code, read another file or grow without bound."""

import ast
import time
from pathlib import Path

import numpy as np
import pytest

from nextlat_bench.tasks import _cache
from nextlat_bench.tasks._streets import StreetMap

ROOT = Path(__file__).parents[1]
SECONDS = 2.0

LAUGHS = '<!ENTITY l0 "ha">' + "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10)
)
ATTACKS = {  # kind -> (document type, what uses it)
    "billion laughs": (f"<!DOCTYPE m [{LAUGHS}]>", "&l9;"),
    "quadratic blowup": (f'<!DOCTYPE m [<!ENTITY a "{"a" * 100_000}">]>', "&a;" * 100_000),
    "a file by an entity": ('<!DOCTYPE m [<!ENTITY f SYSTEM "file://SECRET">]>', "&f;"),
    "a file by a parameter": ('<!DOCTYPE m [<!ENTITY % f SYSTEM "file://SECRET"> %f;]>', ""),
    "a document type elsewhere": ('<!DOCTYPE m SYSTEM "file://SECRET">', ""),
    "a document type by the network": ('<!DOCTYPE m SYSTEM "http://127.0.0.1:9/x.dtd">', ""),
}


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"is refused|not UTF-8|not OSM XML") as caught:
        StreetMap.load(path)
    assert time.process_time() - begin < SECONDS
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".graphml", ".osm", ".xml"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_entities_are_refused(attack: str, suffix: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    declared, used = ATTACKS[attack]
    root = "graphml" if suffix == ".graphml" else "osm"
    text = f"<?xml version='1.0' encoding='utf-8'?>\n{declared}<{root}>{used}</{root}>"
    said = refused(tmp_path / f"map{suffix}", text.replace("SECRET", str(secret)).encode())
    assert said.endswith("<!DOCTYPE is refused in a map; remove it")
    assert "secret" not in said.removeprefix(str(tmp_path))


@pytest.mark.parametrize("encoding", ["cp037", "utf-7", "utf-16", "utf-16-le", "iso-8859-1"])
def test_entities_do_not_hide_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    """Also where the declaration is longer than anybody looks."""
    declared = f"<?xml version='1.0' {' ' * 5_000}encoding='{encoding}'?>"
    rest = f"{ATTACKS['billion laughs'][0]}<osm>&l9;</osm>"
    for head in (declared.encode(), declared.encode(encoding)):
        refused(tmp_path / "map.osm", head + rest.encode(encoding))


def test_object_arrays_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poisoned cache is made anew, and what it holds never comes to life."""
    woken = []

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return woken.append, ("woken",)

    names = ("node_ids", "u", "v", "longitude", "latitude", "length")
    for trapped in names:
        arrays = {name: np.zeros(2) for name in names} | {trapped: np.array([Trap()], object)}
        path = cache / "streets-poisoned.npz"
        np.savez(path, allow_pickle=True, **arrays)  # type: ignore[arg-type]
        woken.clear()
        made = {name: np.ones(1) for name in names}
        found = _cache.cached_arrays("streets-poisoned", lambda m=made: m, lambda _: True)
        assert all((found[name] == made[name]).all() for name in names)
        assert not woken


def test_any_changed_byte_of_the_cache_only_costs_time(cache: Path) -> None:
    kept = {"hops": np.arange(6, dtype=np.int16), "names": np.array(["a", "bc"])}

    def again() -> _cache.Arrays:
        return _cache.cached_arrays("changed", lambda: kept, lambda found: set(found) == set(kept))

    again()
    content = (cache / "changed.npz").read_bytes()
    for place in range(len(content)):
        for bit in (1, 32, 128):
            damaged = bytearray(content)
            damaged[place] ^= bit
            (cache / "changed.npz").write_bytes(damaged)
            found = again()
            assert all((found[name] == kept[name]).all() for name in kept), (place, bit)


def calls(tree: ast.AST) -> list[tuple[str, dict[str, ast.expr]]]:
    return [
        (ast.unparse(node.func), {k.arg: k.value for k in node.keywords if k.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def unsafe(source: str) -> list[str]:
    """What in a module's source could run a file's content as code."""
    tree = ast.parse(source)
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    bad = sorted({m.partition(".")[0] for m in modules} & {"pickle", "shelve", "marshal", "yaml"})
    bad += sorted({m.partition(".")[0] for m in modules} & {"dill", "cloudpickle", "joblib"})
    for name, keywords in calls(tree):
        said = {key: ast.unparse(value) for key, value in keywords.items()}
        if name in (
            "eval",
            "exec",
            "compile",
            "__import__",
            "pandas.read_pickle",
            "pd.read_pickle",
        ):
            bad.append(name)
        if name == "torch.load" and said.get("weights_only") != "True":
            bad.append("torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and said.get("allow_pickle") != "False":
            bad.append(f"{name} without allow_pickle=False")
        if said.get("shell") == "True":
            bad.append("shell=True")
    return bad


def test_no_source_loads_code() -> None:
    sources = [p for f in ("nextlat_bench", "tasks", "probes") for p in (ROOT / f).rglob("*.py")]
    assert len(sources) > 50
    found = {str(path.relative_to(ROOT)): unsafe(path.read_text()) for path in sources}
    assert {name: bad for name, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from yaml import load",
        "import os, joblib.memory",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(code)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert unsafe(line)
