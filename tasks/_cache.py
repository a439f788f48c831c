"""Arrays that take long to compute, kept on disk by name: maps, distance tables, tokenized text."""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "cache_dir", "cached_arrays"]

Arrays = dict[str, npt.NDArray[Any]]
DAMAGED = (  # RuntimeError: it seems encrypted, or packed in an unknown way
    *(OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def cache_dir() -> Path:
    """NEXTLAT_BENCH_CACHE, or nextlat-bench in the user's cache directory."""
    if own := os.environ.get("NEXTLAT_BENCH_CACHE"):
        try:
            return Path(own).expanduser()
        except RuntimeError:
            raise ValueError(
                f"NEXTLAT_BENCH_CACHE = {own!r}: no such home; name a folder in full"
            ) from None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "nextlat-bench")


def cached_arrays(
    name: str, compute: Callable[[], Arrays], valid: Callable[[Arrays], bool]
) -> Arrays:
    """What `compute` returns, kept as NAME.npz in the cache; a damaged file is made anew."""
    path = cache_dir() / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        if valid(arrays):
            return arrays
    except DAMAGED:
        pass
    arrays = compute()
    with suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    return arrays
