"""The command line: parse, import what is needed, call, print."""

import io
import os
import re
import signal
import sys
import time
from itertools import pairwise
from typing import Any, NoReturn

from nextlat_bench.cli import measuring, reading  # the verbs
from nextlat_bench.cli.options import app
from nextlat_bench.console import follows, told
from nextlat_bench.files import visible

__all__ = ["app", "main", "measuring", "reading"]

INTERRUPTED = 130
GOES_ON = {  # the verbs that keep what they have done
    "run": "; the same command goes on from the last checkpoint",
    "sweep": "; the same command goes on from the last checkpoint",
    "probe": "; the same command goes on with the probe that it was at",
}
SECONDS_TO_SAY_IT = 10.0
PLACES = ("--out", "--figures", "--records", "--map")  # an empty path would be the folder one is in
LOST_PEER = re.compile("gloo|nccl", re.IGNORECASE)


def main() -> None:
    """Entry point. Errors that a user can cause are one line and exit code 2."""
    # Threads that wait should sleep: with another process busy, spinning ones cost ten times more.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):  # of a terminal that lacks some characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        if stopped:  # asked twice: what is half written, the next process removes
            os.write(2, farewell().encode())
            os._exit(128 + number)
        stopped.append(number)
        raise KeyboardInterrupt

    on_stop(stop)
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries would end the process with words of their own
        refuse("the working directory has been removed: change to another one")
    for word, after in pairwise([*sys.argv, "."]):
        option, sign, value = word.partition("=")
        if option in PLACES and not (value if sign else after):
            refuse(f"{option} '': expected a path (. is the folder that you are in)")
    try:
        code = app(standalone_mode=False)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Exception, SystemExit) as error:  # a plugin's; the verbs end by a code
        if os.environ.get("NEXTLAT_BENCH_TRACEBACK"):
            raise
        if stopped:  # torch's writer of files makes an error of its own of an interrupted write
            end(stopped[0])
        lost = isinstance(error, RuntimeError) and LOST_PEER.search(str(error))
        if follows() and (isinstance(error, ValueError) or lost):
            leave_it_to_the_first()
        if lost:
            refuse(
                f"another process of this training was lost ({str(error)[:160]}): it may have said "
                f"why{GOES_ON['run']}"
            )
        if (message := told(error)) is None:
            raise
        refuse(message)
    if code == INTERRUPTED:
        end(stopped[0] if stopped else signal.SIGINT)
    sys.exit(code)


def end(number: int) -> NoReturn:
    """What a stop by this signal says, and its exit code."""
    on_stop(signal.SIG_IGN)
    print(farewell(), end="", file=sys.stderr)
    on_stop(signal.SIG_DFL)  # another one ends it in silence
    sys.exit(128 + number)


def on_stop(handler: Any) -> None:
    """What Ctrl-C does, and the signal that a scheduler sends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def farewell() -> str:
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"\nstopped{GOES_ON.get(verb, '')}\n"


def leave_it_to_the_first() -> NoReturn:
    """torchrun ends all processes as soon as one ends: the first has time to say why."""
    on_stop(signal.SIG_DFL)
    time.sleep(SECONDS_TO_SAY_IT)
    sys.exit(2)


def refuse(message: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    if message:  # empty where the help page was printed instead
        print(f"nextlat-bench: {visible(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)
