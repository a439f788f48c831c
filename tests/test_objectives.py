"""Every objective against a slow loop written from its equations, and its masks and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import (
    CONFIG,
    END,
    PAD,
    V,
    cross_entropy,
    documents,
    initialised,
    made_batch,
    mean,
    noisy,
    slow_next_token,
)
from torch import Tensor, nn

from nextlat_bench import registry
from nextlat_bench.data import TensorBatch, to_tensors
from nextlat_bench.decoder import Decoder, KeyValueCache
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.objectives.jtp import JTP
from nextlat_bench.objectives.mtp import MTP
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.objectives.noisy_nextlat import NoisyNextLat
from nextlat_bench.run import DecoderConfig
from nextlat_bench.tasks._core import Batch


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return noisy(Decoder(CONFIG, V, 32), 0)


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_gpt(decoder: Decoder, packed: bool) -> None:
    batch = made_batch(packed)
    losses = GPT().loss(decoder, nn.Module(), batch)
    logits = decoder.head(decoder(batch.tokens, batch.document, batch.position))
    torch.testing.assert_close(losses.total, slow_next_token(logits, batch))


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("horizon", [1, 2, 3, 8])
def test_nextlat(decoder: Decoder, packed: bool, horizon: int, residual: bool) -> None:
    batch = made_batch(packed)
    sizes = {"horizon": horizon, "dynamics_width": 24, "residual": residual}
    objective = NextLat(latent_weight=0.7, kl_weight=0.3, **sizes)
    p = initialised(objective)
    losses = objective.loss(decoder, p, batch)

    h = decoder(batch.tokens, batch.document, batch.position)
    latent = [[] for _ in range(horizon)]
    kl = [[] for _ in range(horizon)]
    for row, columns in documents(batch):
        for t in columns:
            g = h[row, t]
            for i in range(1, horizon + 1):
                if t + i not in columns:
                    break
                e = decoder.embedding.weight[batch.tokens[row, t + i]]
                both = torch.cat([e, g])
                normed = both / torch.sqrt((both**2).mean() + 1e-5) * p.norm.weight
                inner = F.gelu(p.mlp[0].weight @ normed)
                g = residual * g + p.mlp[4].weight @ F.gelu(p.mlp[2].weight @ inner)
                error = (g - h[row, t + i]).abs()
                latent[i - 1].append(torch.where(error < 1, error**2 / 2, error - 0.5).mean())
                if batch.targets[row, t + i] >= 0:
                    q = decoder.head(h[row, t + i]).softmax(-1)
                    kl[i - 1].append((q * (q.log() - decoder.head(g).log_softmax(-1))).sum())
    expected_latent = sum(mean(terms) for terms in latent) / horizon
    expected_kl = sum(mean(terms) for terms in kl) / horizon
    torch.testing.assert_close(losses.parts["latent"], expected_latent)
    torch.testing.assert_close(losses.parts["kl"], expected_kl)
    next_token = slow_next_token(decoder.head(h), batch)
    total = next_token + 0.7 * expected_latent + 0.3 * expected_kl
    torch.testing.assert_close(losses.total, total)


def test_noisy_nextlat(decoder: Decoder) -> None:
    """One step ahead, by a slow loop that is given the same draws; without any it is NextLat."""
    batch = made_batch(packed=True)
    weights = {"latent_weight": 0.7, "kl_weight": 0.3}
    objective = NoisyNextLat(noise=0.4, jitter=1.5, **weights)
    p = initialised(objective)
    losses = objective.loss(decoder, p, batch)
    h = decoder(batch.tokens, batch.document, batch.position)
    [at] = [at for i, at in batch.ahead(1) if i == 1]
    T, width = batch.tokens.shape[1], CONFIG.width
    zeros, ones = torch.zeros(len(at), width), torch.ones(len(at), width)
    shift = objective.reader(h.detach(), batch)(zeros, at - 1)  # no length, so no noise
    noise = objective.reader(h.detach(), batch)(ones, at - 1) - shift - 1
    latent = []
    for k, place in enumerate(at.tolist()):
        row, t = divmod(place - 1, T)
        e = decoder.embedding(batch.tokens[row, t + 1])
        rms = torch.sqrt((h[row, t] ** 2).mean())
        disturbed = h[row, t] + rms * noise[k] + shift[k]
        latent.append(F.smooth_l1_loss(p(disturbed, e), h[row, t + 1]))
    torch.testing.assert_close(losses.parts["latent"], mean(latent))
    silent = NoisyNextLat(noise=0.0, jitter=0.0, horizon=3, **weights).loss(decoder, p, batch)
    plain = NextLat(horizon=3, **weights).loss(decoder, p, batch)
    torch.testing.assert_close(silent.total, plain.total, rtol=0, atol=0)


def test_noise_is_a_function_of_the_batch(decoder: Decoder) -> None:
    batch = made_batch(packed=True)
    other = replace(batch, tokens=batch.tokens.roll(1))
    objective, states = NoisyNextLat(noise=0.5, jitter=0.0), torch.full((4_000, CONFIG.width), 3.0)
    h, at = torch.randn(*batch.tokens.shape, CONFIG.width), torch.zeros(4_000, dtype=torch.long)
    read = objective.reader(h, batch)
    noise, again = read(states, at) - states, read(states, at) - states
    assert not torch.equal(noise, again)  # another step of the rollout
    assert torch.equal(noise, objective.reader(h, batch)(states, at) - states)
    assert not torch.equal(noise, objective.reader(h, other)(states, at) - states)
    assert abs(float(noise.std()) - 1.5) < 0.03
    assert abs(float(noise.mean())) < 0.03
    h, tokens = torch.randn(4, CONFIG.width), torch.randint(V, (4,))
    p = initialised(objective)
    assert torch.equal(objective.step(decoder, p, h, tokens), NextLat.step(decoder, p, h, tokens))


def test_jitter_moves_states_between_the_means_of_positions() -> None:
    batch = made_batch(packed=True)
    h = torch.randn(*batch.tokens.shape, CONFIG.width)
    by_position: dict[int, list[Tensor]] = {}
    for row, columns in documents(batch):
        for place, t in enumerate(columns):
            by_position.setdefault(place, []).append(h[row, t])
    means = [torch.stack(states).mean(0) for _, states in sorted(by_position.items())]
    at = (batch.document.flatten() >= 0).nonzero().squeeze(1).repeat(200)
    moved = NoisyNextLat(noise=0.0, jitter=2.0).reader(h, batch)(
        torch.zeros(len(at), CONFIG.width), at
    )
    seen, furthest = set(), 0.0
    for place, shift in zip(batch.position.flatten()[at].tolist(), moved, strict=True):
        ways = {s: other - means[place] for s, other in enumerate(means) if s != place}
        shares = {s: float(shift @ way / (way @ way)) for s, way in ways.items()}
        on = [s for s, way in ways.items() if torch.allclose(shares[s] * way, shift, atol=1e-4)]
        seen.add((place, place if not shift.any() else on[0]))  # off every way: an IndexError
        assert -1e-3 <= shares[on[0]] <= 2.001
        furthest = max(furthest, shares[on[0]])
    assert len(seen) == len(means) ** 2
    assert furthest > 1.9


def test_every_pair_counts_once_and_none_crosses_a_boundary() -> None:
    batch = made_batch(packed=True)
    T = batch.tokens.shape[1]
    for i, at in batch.ahead(9):
        expected = sorted(
            row * T + t for row, columns in documents(batch) for t in columns if t - i in columns
        )
        assert at.tolist() == expected


def test_a_document_id_that_returns_is_still_a_boundary() -> None:
    # the released code compares only the ends of a rollout: 0 .. 0 would look like one document
    batch = TensorBatch(
        tokens=torch.zeros(1, 5, dtype=torch.long),
        targets=torch.zeros(1, 5, dtype=torch.long),
        document=torch.tensor([[0, 0, 1, 0, 0]]),
        position=torch.zeros(1, 5, dtype=torch.long),
        scored=torch.arange(5),
        packed=True,
    )
    reached = [at.tolist() for _, at in batch.ahead(3)]
    assert reached == [[0, 1, 2, 3, 4], [1, 4], [], []]


@pytest.mark.parametrize("term", ["latent", "kl"])
def test_nextlat_stops_gradients_at_targets_and_head(decoder: Decoder, term: str) -> None:
    batch = made_batch(packed=True)
    weights = {"latent": (1.0, 0.0), "kl": (0.0, 1.0)}[term]
    objective = NextLat(horizon=2, latent_weight=weights[0], kl_weight=weights[1])
    p = initialised(objective)
    h = torch.randn(*batch.tokens.shape, CONFIG.width, requires_grad=True)
    logits = decoder.head(h.flatten(0, 1)[batch.scored])
    latent, kl = objective.auxiliary(decoder, p, batch, h, logits.detach())
    loss = weights[0] * latent + weights[1] * kl
    head, embedding, source = torch.autograd.grad(
        loss, [decoder.head.weight, decoder.embedding.weight, h], allow_unused=True
    )
    assert head is None or not head.any()
    assert embedding is not None
    assert embedding.any()  # through e(x[t+i])
    # the last position of a document is a target and never a source: no gradient may reach it
    T = batch.tokens.shape[1]
    last = [row * T + columns[-1] for row, columns in documents(batch)]
    assert source.flatten(0, 1).any(dim=1).sum() > 0
    assert not source.flatten(0, 1)[last].any()


def test_head_learns_from_the_next_token_loss_alone(decoder: Decoder) -> None:
    batch = made_batch(packed=True)
    objective = NextLat(horizon=3, latent_weight=2.0, kl_weight=5.0)
    p = initialised(objective)
    ours = torch.autograd.grad(objective.loss(decoder, p, batch).total, decoder.head.weight)
    plain = torch.autograd.grad(GPT().loss(decoder, p, batch).total, decoder.head.weight)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_mtp(decoder: Decoder, packed: bool, horizon: int) -> None:
    batch = made_batch(packed)
    objective = MTP(horizon=horizon, weight=0.6)
    heads = initialised(objective)
    losses = objective.loss(decoder, heads, batch)

    x, attended = decoder.trunk(batch.tokens, batch.document, batch.position, layers=1)
    outputs = [decoder.norm(decoder.blocks[1](x, attended))]
    for block, norm in zip(heads.blocks, heads.norms, strict=True):
        outputs.append(norm(block(x, attended)))
    terms = []
    for i, h in enumerate(outputs):
        terms.append(
            mean(
                [
                    cross_entropy(decoder.head(h[row, t]), int(batch.targets[row, t + i]))
                    for row, columns in documents(batch)
                    for t in columns
                    if t + i in columns and batch.targets[row, t + i] >= 0
                ]
            )
        )
    expected = terms[0] + 0.6 * sum(terms[1:]) / horizon
    torch.testing.assert_close(losses.total, expected)


def test_mtp_adds_one_block_and_norm_a_token() -> None:
    block = sum(p.numel() for p in Decoder(CONFIG, V, 8).blocks[0].parameters())
    for horizon in (1, 4):
        extra = sum(p.numel() for p in MTP(horizon=horizon).init(CONFIG).parameters())
        assert extra == horizon * (block + CONFIG.width)


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_jtp(decoder: Decoder, packed: bool, horizon: int) -> None:
    batch = made_batch(packed)
    objective = JTP(horizon=horizon, weight=0.6)
    head = initialised(objective)
    losses = objective.loss(decoder, head, batch)

    D, H = CONFIG.width, 2
    d = D // H
    h = decoder(batch.tokens, batch.document, batch.position)

    def output(row: int, t: int, k: int) -> Tensor:
        z = []
        for j in range(k + 1):
            raw = decoder.embedding.weight[batch.tokens[row, t + j]] + head.scale * h[row, t]
            z.append(F.layer_norm(raw, (D,), head.input_norm.weight, head.input_norm.bias))
        q, key, v = zip(*[(head.qkv.weight @ x).view(3, H, d) for x in z], strict=True)
        mixed = []
        for a in range(H):
            scores = torch.stack(
                [q[k][a] @ key[j][a] / d**0.5 + head.bias[a, k, j] for j in range(k + 1)]
            )
            mixed.append(sum(w * v[j][a] for j, w in enumerate(scores.softmax(0))))
        y = head.out.weight @ torch.cat(mixed) + (h[row, t] if k else 0.0)
        return y / torch.sqrt((y**2).mean() + 1e-5) * head.norm.weight

    terms = []
    for k in range(horizon + 1):
        terms.append(
            mean(
                [
                    cross_entropy(decoder.head(output(row, t, k)), int(batch.targets[row, t + k]))
                    for row, columns in documents(batch)
                    for t in columns
                    if t + k in columns and batch.targets[row, t + k] >= 0
                ]
            )
        )
    torch.testing.assert_close(losses.total, terms[0] + 0.6 * sum(terms[1:]) / horizon)
    # inference: the planning sequence of length 1, the very logits of output 0
    logits = objective.logits(decoder, head, h, batch.tokens)
    torch.testing.assert_close(slow_next_token(logits, batch), terms[0])


@pytest.mark.parametrize(("heads", "width", "light"), [(5, 50, 2), (3, 42, 3), (8, 16, 4)])
def test_jtps_light_heads_divide_any_width(heads: int, width: int, light: int) -> None:
    """The largest number up to four that does."""
    config = DecoderConfig(layers=1, heads=heads, width=width)
    head = JTP(horizon=2).init(config)
    assert head.heads == light
    assert head(torch.randn(2, 3, width), torch.randn(2, width)).shape == (2, 3, width)


def test_same_position_tags(decoder: Decoder) -> None:
    """A tag at the same position (A5): scored where it stands, with no shift."""
    tokens = np.random.default_rng(0).integers(10, size=(4, 6))
    batch = to_tensors(Batch.of_sequences(tokens, (tokens * 3) % 10, PAD), packed=False)
    logits = decoder.head(decoder(batch.tokens))
    loss = GPT().loss(decoder, nn.Module(), batch).total
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()))


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_targets_are_shifted_once(name: str) -> None:
    """x[t+1] = x[t] + 3 mod 10, up to 0 and the end token, is learnt, and the very next token is
    what inference then says."""
    torch.manual_seed(0)
    objective = registry.load("objectives", name)()
    decoder, extra = objective.decoder(CONFIG, V, 32), objective.init(CONFIG, END)
    rng = np.random.default_rng(0)
    parameters = [*decoder.parameters(), *extra.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(80):
        left = rng.integers(10, size=(16, 1)) - np.arange(11)  # steps before the 0
        tokens = np.where(left >= 0, -3 * left % 10, np.where(left == -1, END, PAD))
        targets = np.full_like(tokens, -1)
        targets[:, :-1] = np.where(tokens[:, 1:] == PAD, -1, tokens[:, 1:])
        batch = to_tensors(Batch.of_sequences(tokens, targets, PAD), packed=False)
        optimizer.zero_grad()
        losses = objective.loss(decoder, extra, batch)
        losses.total.backward()
        optimizer.step()
    assert float(losses.parts["next_token"]) < 0.2
    hidden = objective.hidden(decoder, extra, batch.tokens)
    top = objective.logits(decoder, extra, hidden, batch.tokens).argmax(-1)
    assert (top.flatten()[batch.scored] == batch.scored_targets).float().mean() > 0.95


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_contract(name: str) -> None:
    """Frozen, equal by value, through JSON and back; bad parameters name the field."""
    kind = registry.load("objectives", name)
    objective = kind()
    assert registry.from_json("objectives", registry.to_json(objective)) == objective
    with pytest.raises(AttributeError):
        objective.name = "other"
    if hasattr(objective, "horizon"):
        for bad in (0, -1, 1.5, True, None):
            with pytest.raises(ValueError, match=r"horizon = .*: expected a whole number"):
                kind(horizon=bad)


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_cached_inference_equals_one_pass(name: str) -> None:
    objective = registry.load("objectives", name)()
    torch.manual_seed(0)
    decoder = noisy(objective.decoder(CONFIG, V, 32), 0)
    extra = initialised(objective)
    tokens = torch.randint(V, (3, 8))
    hidden = objective.hidden(decoder, extra, tokens)
    cache = KeyValueCache()
    steps = [objective.hidden(decoder, extra, tokens[:, t : t + 1], cache) for t in range(8)]
    torch.testing.assert_close(torch.cat(steps, 1), hidden, atol=1e-5, rtol=1e-5)
    assert objective.logits(decoder, extra, hidden, tokens).shape == (3, 8, V)


def test_recurrent_reading_is_the_latent_dynamics(decoder: Decoder) -> None:
    objective = NextLat()
    p = initialised(objective)
    h, tokens = torch.randn(4, CONFIG.width), torch.randint(V, (4,))
    expected = p(h, decoder.embedding(tokens))
    torch.testing.assert_close(objective.step(decoder, p, h, tokens), expected)


def test_gradients_pass_through_the_state_alone() -> None:
    """Not through the length that its noise is scaled by."""
    batch = made_batch(packed=True)
    h, g = torch.randn(*batch.tokens.shape, CONFIG.width), torch.randn(4, CONFIG.width)
    g.requires_grad_()
    disturbed = NoisyNextLat(noise=0.5).reader(h, batch)(g, torch.arange(4))
    [gradient] = torch.autograd.grad(disturbed.sum(), g)
    torch.testing.assert_close(gradient, torch.ones_like(g))


def test_noisy_nextlat_stops_gradients_at_the_means_of_positions() -> None:
    torch.manual_seed(0)
    decoder = noisy(Decoder(CONFIG, V, 32), 0)
    batch = made_batch(packed=True)
    objective = NoisyNextLat(noise=0.0, jitter=2.0, kl_weight=0.0)
    h = torch.randn(*batch.tokens.shape, CONFIG.width, requires_grad=True)
    logits = decoder.head(h.flatten(0, 1)[batch.scored]).detach()
    latent, _ = objective.auxiliary(decoder, initialised(objective), batch, h, logits)
    [source] = torch.autograd.grad(latent, [h])
    # the last position of a document is a target and never a source
    T = batch.tokens.shape[1]
    last = [row * T + columns[-1] for row, columns in documents(batch)]
    assert source.any()
    assert not source.flatten(0, 1)[last].any()
