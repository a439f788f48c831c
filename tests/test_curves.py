"""A short training of each objective, in float32, against the losses it had when written down.

Whatever makes training faster must leave these where they are. To write them down again after a
change that is meant to change them: `python tests/test_curves.py`.
"""

import pytest
import torch

from nextlat_bench import registry
from nextlat_bench.model import build
from nextlat_bench.optimizers import make_optimizers
from nextlat_bench.train import clip, micro_batches_of
from nextlat_bench.workers import Workers

STEPS = 12
EVERY = 3

CURVES: dict[tuple[str, str], list[float]] = {
    ("path_star", "bst"): [2.841, 2.7924, 2.7575, 2.6679],
    ("path_star", "gpt"): [2.8705, 2.8042, 2.7224, 2.6298],
    ("path_star", "jtp"): [5.6574, 5.5576, 5.4557, 5.2697],
    ("path_star", "mtp"): [5.7171, 5.5984, 5.433, 5.2381],
    ("path_star", "nextlat"): [3.6046, 3.4964, 3.3301, 3.1288],
    ("path_star", "noisy_nextlat"): [3.7312, 3.6372, 3.4916, 3.3234],
    ("a5", "closed_nextlat"): [2.3727, 2.2377, 2.055, 1.9104],
    ("a5", "gru"): [1.8098, 1.785, 1.7847, 1.7811],
    ("a5", "nextlat"): [2.3724, 2.2356, 2.0459, 1.9016],
    ("a5", "stationary_nextlat"): [2.3675, 2.253, 2.0427, 1.9098],
    ("taxi", "gpt"): [4.4652, 4.2347, 3.9439, 3.5861],
    ("taxi", "nextlat"): [5.0647, 4.7916, 4.3767, 3.8454],
}


def curve(task: str, objective: str) -> list[float]:
    """The loss at every third of the first steps of the smoke-scale run."""
    run = registry.load("presets", task).run(objective, "smoke")
    run = run.override([f"training.steps={STEPS}", "training.examples=32", "training.clip=1.0"])
    model = build(run)
    optimizers = make_optimizers(run.training, model)
    losses = []
    with Workers(run.training.micro_batches, 1, "cpu", "fp32") as workers:
        for step in range(STEPS):
            parts = workers.gradients(run.objective, model, micro_batches_of(run, step, "cpu"))
            losses.append(sum(float(part.total.detach()) for part in parts) / len(parts))
            clip(model, run.training.clip)
            workers.update(optimizers, 0.3)
    return losses[::EVERY]


@pytest.mark.parametrize(("task", "objective"), sorted(CURVES))
def test_the_loss_curve_is_the_one_written_down(task: str, objective: str) -> None:
    torch.testing.assert_close(
        curve(task, objective), CURVES[task, objective], rtol=2e-3, atol=2e-4
    )


def test_every_objective_has_a_curve() -> None:
    assert {objective for _, objective in CURVES} == set(registry.names("objectives"))


if __name__ == "__main__":
    wanted = [("path_star", o) for o in ("bst", "gpt", "jtp", "mtp", "nextlat", "noisy_nextlat")]
    wanted += [("a5", o) for o in ("closed_nextlat", "gru", "nextlat", "stationary_nextlat")]
    wanted += [("taxi", o) for o in ("gpt", "nextlat")]
    for key in wanted:
        print(f"    {key}: {[round(loss, 4) for loss in curve(*key)]},")
