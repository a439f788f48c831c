"""The recurrent reference: its cell from the equations, its state across documents and sessions."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import CONFIG, V, documents, initialised, made_batch, noisy, slow_next_token
from torch import Tensor, nn

from nextlat_bench.data import to_tensors
from nextlat_bench.decoder import Decoder, KeyValueCache, count_parameters
from nextlat_bench.model import build
from nextlat_bench.objectives.gru import GRU
from nextlat_bench.presets import taxi as preset
from nextlat_bench.run import DecoderConfig
from nextlat_bench.tasks._core import Batch

D = CONFIG.width


def made(objective: GRU) -> tuple[Decoder, nn.Module]:
    torch.manual_seed(0)
    return noisy(objective.decoder(CONFIG, V, 8), 0), initialised(objective)


def test_it_needs_no_mark_of_the_start() -> None:
    decoder = GRU().decoder(dataclasses.replace(CONFIG, mark_start=True), V, 8)
    assert {name for name, _ in decoder.named_parameters()} == {
        "embedding.weight",
        "norm.weight",
        "head.weight",
    }


def slow_hidden(decoder: Decoder, gru: nn.Module, tokens: Tensor, layers: int) -> list[Tensor]:
    """(n,) tokens of one document -> n states (D,) after the norm."""
    weights = dict(gru.named_parameters())
    h = [torch.zeros(D) for _ in range(layers)]
    out = []
    for token in tokens.tolist():
        x = decoder.embedding.weight[token]
        for i in range(layers):
            w, u = weights[f"weight_ih_l{i}"], weights[f"weight_hh_l{i}"]
            b, c = weights[f"bias_ih_l{i}"], weights[f"bias_hh_l{i}"]
            r = torch.sigmoid((w @ x + b + u @ h[i] + c)[:D])
            z = torch.sigmoid((w @ x + b + u @ h[i] + c)[D : 2 * D])
            n = torch.tanh((w @ x + b)[2 * D :] + r * (u @ h[i] + c)[2 * D :])
            x = h[i] = (1 - z) * n + z * h[i]
        out.append(x / torch.sqrt((x**2).mean() + 1e-5) * decoder.norm.weight)
    return out


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("layers", [1, 2])
def test_loss(packed: bool, layers: int) -> None:
    """Each document begins with the state zero, whatever stands before it in its row."""
    objective = GRU(layers=layers)
    decoder, gru = made(objective)
    batch = made_batch(packed)
    losses = objective.loss(decoder, gru, batch)
    hidden = torch.zeros(*batch.tokens.shape, D)
    for row, columns in documents(batch):
        slow = slow_hidden(decoder, gru, batch.tokens[row, columns], layers)
        hidden[row, columns] = torch.stack(slow)
    used = batch.document >= 0
    torch.testing.assert_close(losses.hidden[used], hidden[used])
    torch.testing.assert_close(losses.total, slow_next_token(decoder.head(hidden), batch))
    parameters = [*decoder.parameters(), *gru.parameters()]
    ours = torch.autograd.grad(losses.total, parameters)
    expected = torch.autograd.grad(slow_next_token(decoder.head(hidden), batch), parameters)
    torch.testing.assert_close(list(ours), list(expected), atol=1e-5, rtol=1e-4)


def test_a_session_goes_on_from_its_state_beyond_any_length() -> None:
    objective = GRU(layers=2)
    decoder, gru = made(objective)
    tokens = torch.randint(V, (3, 20))  # the decoder is built for 8
    whole = objective.hidden(decoder, gru, tokens)
    cache = KeyValueCache()
    first = objective.hidden(decoder, gru, tokens[:, :5], cache)
    rows = torch.tensor([2, 0, 2])
    picked = objective.hidden(decoder, gru, tokens[rows, 5:], cache.select(rows))
    rest = objective.hidden(decoder, gru, tokens[:, 5:], cache)  # the original is left alone
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    torch.testing.assert_close(picked, whole[rows, 5:])


def test_no_transformer_is_left() -> None:
    run = preset.run("gru", "smoke", 0).override(["objective.layers=2"])
    model, width, tokens = build(run), run.decoder.width, len(run.task.vocab)
    assert len(model.decoder.blocks) == 0
    assert count_parameters(model.decoder) == 2 * tokens * width + width
    assert count_parameters(model.extra) == 2 * (6 * width**2 + 6 * width)


@pytest.mark.parametrize("layers", [0, -1, 1.5, True, None])
def test_bad_layers(layers: object) -> None:
    with pytest.raises(ValueError, match=r"GRU\.layers = .*: expected a whole number"):
        GRU(layers=layers)  # type: ignore[arg-type]


def test_bf16_is_close() -> None:
    objective = GRU()
    decoder, gru = made(objective)
    batch = made_batch(packed=True)
    exact = objective.loss(decoder, gru, batch).total
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rough = objective.loss(decoder, gru, batch).total
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.02)
    assert all(g.isfinite().all() for g in torch.autograd.grad(rough, list(gru.parameters())))


def test_parity_far_beyond_the_training_length() -> None:
    """Bits and the parity of all so far: learnt at length 8, exact at every position up to 40."""
    torch.manual_seed(0)
    objective, config = GRU(), DecoderConfig(layers=1, heads=2, width=32)
    decoder, gru = objective.decoder(config, 2, 8), objective.init(config)
    parameters = [*decoder.parameters(), *gru.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(120):
        bits = rng.integers(2, size=(64, 8))
        batch = to_tensors(Batch.of_sequences(bits, bits.cumsum(axis=1) % 2, -1), packed=False)
        optimizer.zero_grad()
        loss = objective.loss(decoder, gru, batch).total
        loss.backward()
        optimizer.step()
    bits = torch.from_numpy(rng.integers(2, size=(500, 40)))
    logits = objective.logits(decoder, gru, objective.hidden(decoder, gru, bits), bits)
    assert torch.equal(logits.argmax(-1), bits.cumsum(1) % 2)
