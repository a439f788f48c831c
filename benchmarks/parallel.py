"""Two cores against one: two seeds side by side, and one run on two threads.

Steps of the laptop-scale taxi run, after its first ones. Workers are processes of their own, as a
sweep starts them; all pass a barrier before each round.
"""

import multiprocessing
import queue
import time
from multiprocessing.synchronize import Barrier
from typing import Any

from benchmarks._core import Section, shown, spread

__all__ = ["run"]

ROUNDS, STEPS = 5, 10


def work(seed: int, threads: int, start: Barrier, results: Any) -> None:
    """Seconds of `STEPS` training steps in each round."""
    import torch

    from nextlat_bench.device import chosen_precision
    from nextlat_bench.model import build
    from nextlat_bench.optimizers import make_optimizers
    from nextlat_bench.presets import taxi
    from nextlat_bench.train import clip, micro_batches_of
    from nextlat_bench.workers import Workers

    torch.set_num_threads(threads)
    run = taxi.run("nextlat", seed=seed)
    model = build(run)
    optimizers = make_optimizers(run.training, model)
    precision = chosen_precision(run.training, "cpu")
    taken = []
    with Workers(run.training.micro_batches, threads, "cpu", precision) as workers:
        for turn in range(ROUNDS + 1):  # the first is not counted
            start.wait()
            begin = time.perf_counter()
            for step in range(STEPS):
                parts = micro_batches_of(run, turn * STEPS + step, "cpu")
                workers.gradients(run.objective, model, parts)
                clip(model, run.training.clip)
                workers.update(optimizers, 1.0)
            taken.append(time.perf_counter() - begin)
    results.put(taken[1:])


def timed(workers: int, threads: int) -> list[float]:
    """Seconds until the last of `workers` processes is done, round by round."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=work, args=(seed, threads, start, results))
        for seed in range(workers)
    ]
    for process in processes:
        process.start()
    taken = [received(results, processes) for _ in processes]
    for process in processes:
        process.join()
    return [max(rounds) for rounds in zip(*taken, strict=True)]


def received(results: Any, processes: list[Any]) -> list[float]:
    """The seconds of the next worker that is done. One that died would be waited for without end,
    here and by the others at their barrier."""
    while True:
        try:
            return results.get(timeout=1.0)  # type: ignore[no-any-return]
        except queue.Empty:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.terminate()
                raise RuntimeError("a worker died: what it said stands above") from None


def run() -> list[Section]:
    alone, threads, together = timed(1, 1), timed(1, 2), timed(2, 1)
    table = Section(
        f"Two cores: {STEPS} steps of the laptop-scale taxi run",
        ["what", "seconds", "speed-up"],
    )
    rows = {
        "one run, one thread": (alone, None),
        "one run, two threads": (threads, [a / b for a, b in zip(alone, threads, strict=True)]),
        "two seeds side by side, a thread each": (
            together,
            [2 * a / b for a, b in zip(alone, together, strict=True)],
        ),
    }
    for name, (seconds, gain) in rows.items():
        gained = spread(gain) if gain else [1.0, 1.0, 1.0]
        table.add(name, shown(spread(seconds)), shown(gained) if gain else "1")
        table.facts[name] = {"seconds": spread(seconds), "speedup": gained}
    table.notes.append("Side by side: against one seed after the other.")
    return [table]
