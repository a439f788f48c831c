"""What the terminal shows: a bar, or a line now and then, while something runs; what went wrong."""

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["clock", "console", "follows", "progress_bars", "told"]

SECONDS_BETWEEN_LINES = 20.0
PLAIN_WIDTH = 110
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")  # torch's

Advance = Callable[[str, int, int, str], None]  # what, done, total, note


def console() -> "Console":
    """Standard output; of a fixed width where it is not a terminal. Of the processes that
    torchrun began, the first alone speaks."""
    from rich.console import Console

    # a path or a message may hold brackets, which are no markup
    terminal = Console(quiet=follows(), markup=False, emoji=False)
    if not terminal.is_terminal:
        terminal.width = PLAIN_WIDTH
    return terminal


def follows() -> bool:
    """Is this one of the processes that torchrun began for a run, and not the first? Schedulers set
    these variables for all that they begin."""
    if sys.argv[1:2] != ["run"]:
        return False
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return rank != "0" and world not in ("", "0", "1")


def clock(seconds: float) -> str:
    """65 -> 1:05"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_bars(screen: "Console") -> Iterator[Advance]:
    """Yields `advance(what, done, total, note)`: a bar for each `what` it is called with."""
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield plain_lines(screen)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    name = TextColumn("{task.description}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    bars: dict[str, TaskID] = {}
    with Progress(name, BarColumn(), MofNCompleteColumn(), note, console=screen) as display:

        def advance(what: str, done: int, total: int, note: str) -> None:
            if what not in bars:
                bars[what] = display.add_task(what, note="")
            display.update(bars[what], completed=done, total=total, note=note)

        yield advance


def plain_lines(screen: "Console") -> Advance:
    last: dict[str, float] = {}

    def advance(what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if done == total or now - last.get(what, -SECONDS_BETWEEN_LINES) >= SECONDS_BETWEEN_LINES:
            last[what] = now
            screen.print(f"{what} {done}/{total}  {note}", highlight=False)

    return advance


def told(error: BaseException) -> str | None:
    """What to say of an error that a user can cause; None of any other."""
    if hasattr(error, "format_message"):  # the parser's own: a missing or wrong argument
        return str(error.format_message())
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
        return f"out of memory ({error}): choose smaller sizes, or more micro_batches"
    if isinstance(error, OSError) and error.filename:
        advice = "; make room, and the same command goes on" if error.errno in FULL else ""
        return f"{error.filename}: {error.strerror}{advice}"
    from nextlat_bench.registry import blamed  # no command that goes well needs it

    refused = isinstance(error, ValueError | OSError)
    if where := blamed(error, itself=refused):
        return (
            f"{where}: {type(error).__name__}: {error} "
            "(NEXTLAT_BENCH_TRACEBACK=1 shows how it came there)"
        )
    return str(error) if refused else None
