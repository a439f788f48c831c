"""What the code of a plugin from elsewhere says: what it does may change while its name stays."""

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from nextlat_bench.files import digest_of

__all__ = ["files_of", "source", "source_of"]


def source(plugin: Any) -> dict[str, str]:
    """{"source_digest": that of the plugin's file and of those that it imports from beside it};
    nothing of one that comes with the suite."""
    module = type(plugin).__module__
    return {} if module.startswith("nextlat_bench.") else source_of(module)


def source_of(module: str) -> dict[str, str]:
    """The same of an imported module by its dotted name; nothing of one without a file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return {"source_digest": digest_of(files_of(module, Path(file)))} if file else {}


def files_of(module: str, file: Path) -> list[Path]:
    """The file of a module, then those of its own package, and of the folder that holds it, which
    it imports, and what these import in turn. Of installed ones, those of its package alone.

    Read from the text, so that it does not matter what has been imported by now.
    """
    first, *inner = module.split(".")
    root = file.parents[len(inner) + (file.name == "__init__.py")]
    alone = any(root.glob("*.dist-info"))  # other packages there are installed ones, too
    found, left = {file: None}, [(module, file)]
    while left:
        name, file = left.pop()
        for wanted in imported(name, file):
            top = wanted.partition(".")[0]
            if top == "nextlat_bench" or (alone and top != first):
                continue
            place = root.joinpath(*wanted.split("."))
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_file() and path not in found:
                    found[path] = None
                    left.append((wanted, path))
    own, *others = found
    return [own, *sorted(others)]


def imported(module: str, file: Path) -> Iterator[str]:
    """Dotted names of the modules that a file may import, its own packages first; of
    `from a import b`, too, which may be a module or not."""
    yield from parents(module)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # relative, beyond the package
                base = resolve_name("." * node.level + (node.module or ""), package)
                for alias in node.names:
                    yield from parents(f"{base}.{alias.name}")


def parents(dotted: str) -> Iterator[str]:
    """a.b.c -> a, a.b, a.b.c"""
    parts = dotted.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])
