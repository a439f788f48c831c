"""Speed, ours and peers', in one run: `python -m benchmarks [NAME ...]`; all of them without names.

Needs the peers (`pip install -c constraints.txt -e '.[bench]'`) and a machine that does nothing
else meanwhile. Prints tables and leaves them in results/rendered/benchmark-NAME.md and .json.
"""

import importlib
import importlib.util
import os
import sys

NAMES = (
    "training",
    "breakdown",
    "decoding",
    "generators",
    "worlds",
    "probing",
    "parallel",
    "startup",
    "growth",
    "cost",
)
PEERS = {
    "training": ("transformers", "x_transformers"),
    "decoding": ("transformers",),
    "generators": ("reasoning_gym",),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark named {unknown[0]!r}: there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    needed = [peer for name in names or NAMES for peer in PEERS.get(name, ())]
    missing = dict.fromkeys(peer for peer in needed if importlib.util.find_spec(peer) is None)
    if missing:  # said before the first table, not after half an hour
        how = "pip install -c constraints.txt -e '.[bench]'"
        print(f"not installed: {', '.join(missing)}; to have all peers: {how}", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported
    from benchmarks._core import write

    for name in names or NAMES:
        print(f"## {name}\n", flush=True)
        print(write(name, importlib.import_module(f"benchmarks.{name}").run()), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
