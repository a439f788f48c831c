"""What the terminal shows while something runs: a bar, or a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["clock", "console", "progress_bar"]

SECONDS_BETWEEN_LINES = 20.0
PLAIN_WIDTH = 110

Advance = Callable[[int, int, str], None]  # done, total, note


def console() -> "Console":
    """Standard output; of a fixed width where it is not a terminal."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)


def clock(seconds: float) -> str:
    """65 -> 1:05"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_bar(screen: "Console", what: str) -> Iterator[Advance]:
    """Yields `advance(done, total, note)`; prints nothing if it is never called."""
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield plain_lines(screen, what)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=screen) as bars:
        bar = bars.add_task(what, note="", visible=False)

        def advance(done: int, total: int, note: str) -> None:
            bars.update(bar, completed=done, total=total, note=note, visible=True)

        yield advance


def plain_lines(screen: "Console", what: str) -> Advance:
    last = -SECONDS_BETWEEN_LINES

    def advance(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            screen.print(f"{what} {done}/{total}  {note}", highlight=False)

    return advance
