"""The command line: parse, import what is needed, call, print."""

import os
import sys
from typing import NoReturn

from nextlat_bench.cli import measuring, reading  # the verbs
from nextlat_bench.cli.options import app

__all__ = ["app", "main", "measuring", "reading"]

INTERRUPTED = 130


def main() -> None:
    """Entry point. Errors that a user can cause are one line and exit code 2."""
    # Threads that wait should sleep: with another process busy, spinning ones cost ten times more.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        if os.environ.get("NEXTLAT_BENCH_TRACEBACK"):
            raise
        refuse(str(error))
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own: a missing or wrong argument
            refuse(error.format_message())
        raise
    if code == INTERRUPTED:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(code)


def refuse(message: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun began
    if message and first:  # empty where the help page was printed instead
        print(f"nextlat-bench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
