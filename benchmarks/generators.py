"""Examples per second of our generators and of reasoning-gym's, on one core, in one run.

python -m benchmarks.generators        needs `pip install -c constraints.txt -e '.[bench]'`

Each round draws as many examples as take a peer and us some tenths of a second, ours and the
peer's by turns; the ratio is taken within a round. The peer writes a question and an answer as
text; ours are the tokens and targets of a training step, and, in the last column, text as well.
The sizes are the same. What a Countdown problem is differs: the peer writes a random expression
down and computes its target; ours draws the target, redraws the inputs until an exact solver finds
a solution that uses all of them, and gives the first in a stated order.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 7
SECONDS = 0.4  # of each side in each round
FOLDER = Path(__file__).parents[1] / "results" / "rendered"

Draw = Callable[[int, int], None]  # start, n


def ours(task: Any, text: bool) -> Draw:
    def draw(start: int, n: int) -> None:
        batch = task.sample("train", start, n)
        if text:
            for tokens in batch.tokens:
                task.text(tokens)

    return draw


def peers(name: str, **parameters: Any) -> Draw:
    import reasoning_gym

    data = reasoning_gym.create_dataset(name, size=10**9, seed=0, **parameters)

    def draw(start: int, n: int) -> None:
        for i in range(start, start + n):
            data[i]

    return draw


def rate(draw: Draw, start: int, n: int) -> float:
    """Examples a second of CPU time."""
    begin = time.process_time()
    draw(start, n)
    return n / (time.process_time() - begin)


def compare(task: Any, peer: Draw) -> dict[str, Any]:
    sides = {"tokens": ours(task, text=False), "text": ours(task, text=True), "peer": peer}
    # whole blocks of ours, none of them drawn before; a first call pays for imports and tables
    least = {"tokens": 1024, "text": 1024, "peer": 64}
    size = {}
    for name, draw in sides.items():
        rate(draw, 0, 64)
        fitting = rate(draw, 2**20, least[name]) * SECONDS
        size[name] = max(1, round(fitting / least[name])) * least[name]
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1, ROUNDS + 1):
        for name, draw in sides.items():
            # the two of ours read different examples, so that neither finds them cached
            start = turn * size[name] + 2**24 * (name == "text")
            rates[name].append(rate(draw, start, size[name]))
    ratios = {
        name: sorted(a / b for a, b in zip(rates[name], rates["peer"], strict=True))
        for name in ("tokens", "text")
    }
    return {
        "per_second": {name: round(median(values)) for name, values in rates.items()},
        "ratio": {name: [v[0], median(v), v[-1]] for name, v in ratios.items()},
    }


def markdown(rows: dict[str, dict[str, Any]], machine: str) -> str:
    def ratio(values: list[float]) -> str:
        low, middle, high = values
        return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"

    lines = [
        f"Generators on one core of {machine}: medians of {ROUNDS} rounds, ratios and range.",
        "",
        "| task | ours a second | reasoning-gym | ratio | ours, as text too | ratio |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        a, b = row["per_second"], row["ratio"]
        lines.append(
            f"| {name} | {a['tokens']:,} | {a['peer']:,} | {ratio(b['tokens'])} "
            f"| {a['text']:,} | {ratio(b['text'])} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    from nextlat_bench.tasks.countdown import Countdown
    from nextlat_bench.tasks.path_star import PathStar
    from nextlat_bench.train import cpu_name

    def star(degree: int, length: int, ids: int) -> tuple[Any, Draw]:
        edges = {"min_path_length": length - 1, "max_path_length": length - 1}  # it counts edges
        peer = peers("path_star", degree=degree, node_range=ids, **edges)
        return PathStar(degree=degree, length=length, num_nodes=ids), peer

    numbers = {"min_numbers": 4, "max_numbers": 4, "min_value": 1, "max_value": 99}
    countdown = peers("countdown", min_target=10, max_target=100, **numbers)
    work = {
        "Countdown, 4 numbers up to 99": (Countdown(), countdown),
        "Path-Star G(2,5), 20 ids": star(2, 5, 20),
        "Path-Star G(5,5), 100 ids": star(5, 5, 100),
        "Path-Star G(7,7), 100 ids": star(7, 7, 100),
    }
    rows = {name: compare(task, peer) for name, (task, peer) in work.items()}
    machine = f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = markdown(rows, machine)
    print(text, end="")
    (FOLDER / "benchmark-generators.md").write_text(text, encoding="utf-8")
    facts = {"machine": machine, "rounds": ROUNDS, "rows": rows}
    (FOLDER / "benchmark-generators.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
