"""Examples per second of our generators and of reasoning-gym's, on one core, in one run.

Each round draws as many examples as take a peer and us some tenths of a second, ours and the
peer's by turns; the ratio is taken within a round. The peer writes a question and an answer as
text; ours are the tokens and targets of a training step, and, in the last column, text as well.
The sizes are the same. What a Countdown problem is differs: the peer writes a random expression
down and computes its target; ours draws the target, redraws the inputs until an exact solver finds
a solution that uses all of them, and gives the first in a stated order.
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks._core import Section, ratio, shown, spread

__all__ = ["run"]

ROUNDS = 7
SECONDS = 0.4  # of each side in each round

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
    return {
        "per_second": {name: spread(values) for name, values in rates.items()},
        "ratio": {name: ratio(rates[name], rates["peer"]) for name in ("tokens", "text")},
    }


def run() -> list[Section]:
    from nextlat_bench.tasks.countdown import Countdown
    from nextlat_bench.tasks.path_star import PathStar

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
    table = Section(
        f"Generators on one core: {ROUNDS} rounds, examples a second of CPU time",
        ["task", "ours", "reasoning-gym", "times faster", "ours, as text too", "times faster"],
    )
    for name, (task, peer) in work.items():
        facts = compare(task, peer)
        table.facts[name] = facts
        speed, times = facts["per_second"], facts["ratio"]
        table.add(
            name,
            shown(speed["tokens"], 0),
            shown(speed["peer"], 0),
            shown(times["tokens"], 0),
            shown(speed["text"], 0),
            shown(times["text"], 1),
        )
    return [table]
