"""NextLat with closed states: the loss against a slow loop, who learns from it, and where not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import CONFIG, V, documents, initialised, made_batch, mean, noisy
from torch import Tensor

from nextlat_bench import registry
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder
from nextlat_bench.objectives.closed_nextlat import ClosedNextLat
from nextlat_bench.objectives.nextlat import LatentDynamics, NextLat
from nextlat_bench.run_dir import RunDir
from nextlat_bench.subject import load
from nextlat_bench.train import train

SETTINGS = {"horizon": 2, "latent_weight": 0.7, "kl_weight": 0.3}


def slow_away(
    decoder: Decoder, extra: LatentDynamics, batch: TensorBatch, steps: int, nearest: int
) -> Tensor:
    """From the end of each document through the documents after it, one state at a time."""
    h = decoder(*batch.inputs).detach()
    found = sorted(documents(batch), key=lambda at: (at[0], at[1][0]))  # as they lie
    known = [h[row, t].tolist() for row, columns in found for t in columns[1:]]
    distances = []
    for number, (row, columns) in enumerate(found):
        later = found[number + 1 :] + found * steps
        tokens = [int(batch.tokens[r, t]) for r, cs in later for t in cs][:steps]
        g = h[row, columns[-1]]
        for token in tokens:
            g = extra(g.detach(), decoder.embedding.weight[token].detach())
            away = [sum((a - b) ** 2 for a, b in zip(g.tolist(), s, strict=True)) for s in known]
            order = sorted(range(len(known)), key=away.__getitem__)[:nearest]
            target = torch.tensor([known[i] for i in order]).mean(0)
            error = (g - target).abs()
            huber = torch.where(error < 1, error**2 / 2, error - 0.5)
            distances.append(huber.mean())
    return mean(distances)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("nearest", [1, 3, 100])
def test_the_loss_by_a_slow_loop(packed: bool, nearest: int) -> None:
    """30 steps are once around all 27 tokens of the batch; 100 states are more than it has."""
    decoder, batch = noisy(Decoder(CONFIG, V, 32), 0), made_batch(packed)
    objective = ClosedNextLat(closed_weight=5.0, onward=30, nearest=nearest, **SETTINGS)
    extra = initialised(objective)
    losses = objective.loss(decoder, extra, batch)
    away = slow_away(decoder, extra, batch, 30, nearest)
    torch.testing.assert_close(losses.parts["away"], away.detach())
    plain = NextLat(**SETTINGS).loss(decoder, extra, batch)
    torch.testing.assert_close(losses.total, plain.total + 5 * away)
    assert losses.parts.keys() == plain.parts.keys() | {"away"}


def test_only_the_dynamics_learn_from_it_and_each_step_alone() -> None:
    """The decoder's gradients are NextLat's; those of the dynamics do not pass from step to step,
    as they do not in the slow loop."""
    decoder, batch = noisy(Decoder(CONFIG, V, 32), 0), made_batch(packed=False)
    objective = ClosedNextLat(onward=4, closed_weight=3.0)
    extra = initialised(objective)
    losses = (
        objective.loss(decoder, extra, batch).total,
        NextLat().loss(decoder, extra, batch).total,
        3 * slow_away(decoder, extra, batch, 4, objective.nearest),
    )
    of_decoder, of_dynamics = (
        [
            torch.autograd.grad(loss, list(part.parameters()), allow_unused=True, retain_graph=True)
            for loss in losses
        ]
        for part in (decoder, extra)
    )
    for closed, plain in zip(*of_decoder[:2], strict=True):
        torch.testing.assert_close(closed, plain)
    for closed, plain, away in zip(*of_dynamics, strict=True):
        torch.testing.assert_close(closed, plain + away)


def test_states_that_are_reached_already_cost_nothing() -> None:
    """Where the dynamics lead from every state to the one that there is, they are closed."""
    decoder, batch = noisy(Decoder(CONFIG, V, 32), 0), made_batch(packed=False)
    objective = ClosedNextLat(onward=4)
    still = initialised(objective)
    for parameter in still.mlp.parameters():
        parameter.data.zero_()  # p(h, x) = h
    one = torch.randn(16).expand(*batch.tokens.shape, 16)
    assert float(objective.away(decoder, still, batch, one).detach()) < 1e-12
    two = torch.where((batch.position == 0).unsqueeze(-1), one + 1, one)  # a first state is none
    assert float(objective.away(decoder, still, batch, two).detach()) < 1e-12
    assert float(objective.away(decoder, initialised(objective), batch, one).detach()) > 1e-3


def test_words_of_one_element_say_nothing() -> None:
    batch = made_batch(packed=False)
    firsts = replace(batch, document=torch.where(batch.position == 0, batch.document, -1))
    hidden = torch.randn(*batch.tokens.shape, 16, requires_grad=True)
    objective = ClosedNextLat()
    away = objective.away(Decoder(CONFIG, V, 32), initialised(objective), firsts, hidden)
    assert float(away.detach()) == 0.0
    away.backward()
    assert not hidden.grad.any()


def test_only_where_documents_may_follow_each_other() -> None:
    a5, taxi = (registry.load("presets", name) for name in ("a5", "taxi"))
    assert a5.run("closed_nextlat", "smoke").objective.name == "closed_nextlat"
    with pytest.raises(
        ValueError, match=r"closed_nextlat goes on .* no sense in taxi: train nextlat"
    ):
        taxi.run("closed_nextlat", "smoke")


def test_it_trains(tmp_path: Path) -> None:
    run = registry.load("presets", "a5").run("closed_nextlat", "smoke", 0)
    run = run.override(["objective.onward=6", "training.warmup_steps=5"])
    folder = RunDir.prepare(tmp_path, run)
    train(run, folder)
    rows = folder.metric_rows()
    assert rows[-1]["next_token"] < 0.8 * rows[0]["next_token"]
    assert all(row["away"] > 0 for row in rows)
    subject = load(folder.path)
    tokens = np.zeros((3, 4), dtype=np.int64)
    assert subject.predict_hidden(subject.hidden(tokens)[:, 0], tokens[:, 1]) is not None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("onward", 0, "onward = 0: expected"),
        ("nearest", 1.5, "nearest = 1.5: expected"),
        ("closed_weight", float("nan"), "closed_weight = nan: expected"),
    ],
)
def test_bad_settings(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClosedNextLat(**{field: value})
