"""Files: written whole or not at all, and read only where they are what they should be."""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

__all__ = ["atomic_write", "check_kinds", "digest_of", "named", "parse_json", "read_bytes"]
__all__ += ["take_lock", "visible", "whole_rows"]

DEEPEST = 100  # objects and lists of JSON, one in the other
NESTED = (dict, list)
UNSEEN = re.compile(  # what moves the cursor, sets the title, or turns the order of letters
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def atomic_write(path: Path, content: bytes) -> None:
    """All of it or nothing: a temporary file in the same folder, synced and renamed."""
    # processes of two machines may have the same number and share the folder
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with named(path):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):  # of a read-only disk, where there is nothing to remove
            temporary.unlink()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError in here names the file: one of a full disk alone does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def take_lock(file: IO[str], shared: bool = False) -> None:
    """Until the file is closed, or the process dies; a BlockingIOError where another has it."""
    try:
        import fcntl
    except ImportError:  # Windows, where none is shared
        windows: Any = importlib.import_module("msvcrt")
        try:
            windows.locking(file.fileno(), windows.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
    else:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def read_bytes(path: Path) -> bytes:
    """What a regular file holds; of a pipe or a device the end might never come."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is not a regular file")
    return path.read_bytes()


def parse_json(text: str | bytes) -> Any:
    """As json.loads, but everything that is wrong is a ValueError, and what is read can be written
    and walked through again."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        inner = [x.values() if isinstance(x, dict) else x for x in level if isinstance(x, NESTED)]
        if not inner:
            return value
        level = [*chain.from_iterable(inner)]
    raise ValueError("nested too deeply")


def check_kinds(value: Any, where: str, **kinds: type) -> dict[str, Any]:
    """`value`, an object with entries of these kinds; else a ValueError that names one."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no object")
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            raise ValueError(f"{where}: {name} is missing, or no {kind.__name__}")
    return value


def whole_rows(data: bytes, **kinds: type) -> list[dict[str, Any]]:
    """The objects of JSON Lines with entries of these kinds, up to the first line that is none: a
    kill may have cut the last."""
    rows = []
    for line in data.splitlines():
        try:
            rows.append(check_kinds(parse_json(line), "row", **kinds))
        except ValueError:
            break
    return rows


def digest_of(files: list[Path]) -> str:
    """SHA-256 over the contents' own, in the order given."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def visible(text: str) -> str:
    """A text from elsewhere, its control characters written out: they would command the terminal,
    or end the line of a table."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
