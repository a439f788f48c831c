"""The command `nextlat-bench`, also as `python -m nextlat_bench`."""

import sys

__all__ = ["main"]


def main() -> None:
    """The command line, whose imports may be stopped as what it does."""
    try:
        from nextlat_bench import cli

        cli.main()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
