"""BST: prefixes and suffixes of one document, each read alone in the slow loop."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
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
from torch import Tensor

from nextlat_bench.data import TensorBatch, pack, to_tensors
from nextlat_bench.decoder import Decoder, count_parameters, swiglu_width
from nextlat_bench.model import build
from nextlat_bench.objectives._core import stream_of
from nextlat_bench.objectives.bst import BST, Beliefs, mirrored, pairs
from nextlat_bench.objectives.gpt import GPT
from nextlat_bench.presets import taxi as preset
from nextlat_bench.run import Run
from nextlat_bench.tasks._core import Batch
from nextlat_bench.tasks.a5 import A5

D = CONFIG.width


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return noisy(Decoder(CONFIG, V, 32), 0)


@pytest.fixture
def beliefs() -> Beliefs:
    extra = initialised(BST())
    assert isinstance(extra, Beliefs)
    return extra


def suffix_state(decoder: Decoder, beliefs: Beliefs, suffix: Tensor) -> Tensor:
    """(n,) tokens in reading order -> (D,): read alone, from the last to the first."""
    x = decoder.embedding(suffix.flip(0)[None])
    attended = decoder.attended(len(suffix), 0, None, None)
    for block in beliefs.blocks:
        x = block(x, attended)
    h = x[0, -1]
    return h / torch.sqrt((h**2).mean() + 1e-5) * beliefs.norm.weight


def joint(beliefs: Beliefs, f: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(D,), (D,) -> the two halves, from the equation."""
    z = torch.cat([f, b])
    gate, up = (beliefs.gate_up.weight @ z).chunk(2)
    z = z + beliefs.down.weight @ (gate * torch.sigmoid(gate) * up)
    z = z / torch.sqrt((z**2).mean() + 1e-5) * beliefs.joint_norm.weight
    return z[:D], z[D:]


def closing_batch(lengths: list[int], prompts: list[int], packed: bool) -> TensorBatch:
    """Documents of random tokens and END, all but the first `prompts` of each scored."""
    n, T = len(lengths), max(lengths)
    tokens = np.random.default_rng(5).integers(PAD, size=(n, T))
    column, length = np.arange(T), np.array(lengths)[:, None]
    tokens = np.where(column < length - 1, tokens, np.where(column == length - 1, END, PAD))
    targets = np.full_like(tokens, -1)
    targets[:, :-1] = tokens[:, 1:]
    scored = (column >= np.array(prompts)[:, None] - 1) & (column < length - 1)
    batch = Batch.of_sequences(tokens, np.where(scored, targets, -1), PAD)
    return to_tensors(pack(batch, 2 * T) if packed else batch, packed)


def cut_batch(packed: bool) -> TensorBatch:
    """Documents that go on after their last token, which is scored; of one there is its end alone,
    behind its mark."""
    tokens = np.random.default_rng(6).integers(PAD, size=(4, 6))
    targets = np.random.default_rng(7).integers(PAD, size=(4, 6))
    targets[:, :-1] = tokens[:, 1:]
    tokens[1, 1:], targets[1] = [END, *[PAD] * 4], [END, *[-1] * 5]
    batch = Batch.of_sequences(tokens, targets, PAD)
    return to_tensors(pack(batch, 12) if packed else batch, packed)


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize(
    ("made", "counts"),
    [
        (made_batch, (20, 20)),
        (lambda packed: closing_batch([7, 5, 6, 3, 2], [2, 1, 3, 2, 1], packed), (24, 22)),
        (cut_batch, (31, 30)),
    ],
    ids=["unscored at their ends", "closing", "cut"],
)
def test_loss_and_gradients(
    decoder: Decoder,
    beliefs: Beliefs,
    made: Callable[[bool], TensorBatch],
    counts: tuple[int, int],
    packed: bool,
) -> None:
    """Each prefix and suffix is encoded alone, so neither may depend on what lies beyond it."""
    batch = made(packed)
    losses = BST().loss(decoder, beliefs, batch)
    following, previous = [], []
    for row, columns in documents(batch):
        x, target, n = batch.tokens[row, columns], batch.targets[row, columns], len(columns)
        for t in range(n):
            for j in range(t + 1, n):
                closing = j == n - 1 and x[j] == END
                if target[t] < 0 or (j == t + 1 and not closing):
                    continue
                f = decoder(x[None, : t + 1])[0, -1]
                p, q = joint(beliefs, f, suffix_state(decoder, beliefs, x[j:]))
                following.append(cross_entropy(decoder.head(p), int(x[t + 1])))
                if j >= 2 and target[j - 2] >= 0:  # x[j-1] is an answer
                    previous.append(cross_entropy(decoder.head(q), int(x[j - 1])))
    assert (len(following), len(previous)) == counts
    torch.testing.assert_close(losses.parts["next_token"], mean(following))
    torch.testing.assert_close(losses.parts["previous_token"], mean(previous))
    expected = (mean(following) + mean(previous)) / 2
    torch.testing.assert_close(losses.total, expected)

    parameters = dict([*decoder.named_parameters(), *beliefs.named_parameters(prefix="extra")])
    ours = torch.autograd.grad(losses.total, list(parameters.values()))
    slow = torch.autograd.grad(expected, list(parameters.values()))
    for name, a, b in zip(parameters, ours, slow, strict=True):
        assert b.any(), name
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def listed(batch: TensorBatch, most: int | None = None) -> list[tuple[int, int]]:
    """Its pairs, in order."""
    made = pairs(batch.scored, mirrored(batch)[1], most, stream_of(batch))
    return sorted(zip(*(x.tolist() for x in made), strict=True))


sizes = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 8)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(sizes=sizes, packed=st.booleans())
def test_pairs_and_mirror(sizes: list[tuple[int, int]], packed: bool) -> None:
    """Of documents of any length: the pairs of the definition, once each; who mirrors whom."""
    prompts, answers = zip(*sizes, strict=True)
    batch = closing_batch([p + a for p, a in sizes], list(prompts), packed)
    mirror, last = mirrored(batch)
    T, padding = batch.tokens.shape[1], batch.document.flatten() < 0
    expected = []
    for row, columns in documents(batch):
        at = [row * T + column for column in columns]
        assert mirror[at].tolist() == at[::-1]
        assert last[at].unique().tolist() == [at[-1]]
        expected += [
            (t, j)
            for t in at
            for j in at
            if batch.targets[row, t - row * T] >= 0 and (j >= t + 2 or t + 1 == j == at[-1])
        ]
    assert listed(batch) == sorted(expected)
    some = listed(batch, most=3)
    assert len(some) == min(3, len(expected))
    assert set(some) <= set(expected)
    assert listed(batch, most=len(expected)) == sorted(expected)
    assert torch.equal(mirror[padding], padding.nonzero().squeeze(1))
    assert len(expected) == sum(a * (a - 1) // 2 + 1 for a in answers)


def test_drawn_pairs_are_as_likely_as_each_other() -> None:
    batch = closing_batch([9, 6, 4], [2, 1, 3], True)
    every = listed(batch)
    stream = torch.Generator().manual_seed(0)
    drawn = [pairs(batch.scored, mirrored(batch)[1], 20, stream) for _ in range(1_000)]
    counts = Counter(p for t, j in drawn for p in zip(t.tolist(), j.tolist(), strict=True))
    assert counts.keys() == set(every)
    assert chisquare([counts[pair] for pair in every]).pvalue > 1e-3


def test_the_loss_over_drawn_pairs(decoder: Decoder, beliefs: Beliefs) -> None:
    """The same ones for the same batch; over many batches' streams, the loss over all pairs, to
    which 12 add for each of the 13 prefixes its pair with END alone."""
    batch = closing_batch([9, 6, 4], [2, 1, 3], False)
    few = BST(most_pairs=12)
    with torch.no_grad():
        whole = BST().loss(decoder, beliefs, batch).parts
        logits = few.logits(decoder, beliefs, decoder(*batch.inputs), batch.tokens)
        alone = slow_next_token(logits, batch)
        whole["next_token"] = (12 * whole["next_token"] + 13 * alone) / 25
        assert few.loss(decoder, beliefs, batch).total == few.loss(decoder, beliefs, batch).total
        parts = [few_pairs(decoder, beliefs, batch, seed) for seed in range(800)]
    for name, value in whole.items():
        found = torch.stack([part[name] for part in parts])
        assert abs(found.mean() - value) < 4 * found.std() / len(found) ** 0.5
        assert found.std() > 0


def few_pairs(
    decoder: Decoder, beliefs: Beliefs, batch: TensorBatch, seed: int
) -> dict[str, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        stream = torch.Generator().manual_seed(seed)
        patch.setattr("nextlat_bench.objectives.bst.stream_of", lambda batch: stream)
        return BST(most_pairs=12).loss(decoder, beliefs, batch).parts


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_inference_pairs_with_the_end_token_alone(
    decoder: Decoder, beliefs: Beliefs, packed: bool
) -> None:
    """With answers of one token and END, every suffix of the loss is END alone."""
    batch = closing_batch([7, 5, 4, 3], [5, 3, 2, 1], packed)
    objective = BST()
    hidden = decoder(*batch.inputs)
    logits = objective.logits(decoder, beliefs, hidden, batch.tokens)
    following = objective.loss(decoder, beliefs, batch).parts["next_token"]
    torch.testing.assert_close(following, slow_next_token(logits, batch))
    p, _ = joint(beliefs, hidden[0, 1], suffix_state(decoder, beliefs, torch.tensor([END])))
    torch.testing.assert_close(logits[0, 1], decoder.head(p))
    # one position at a time, as a session reads it
    one = objective.logits(decoder, beliefs, hidden[:, 1], batch.tokens[:, 1])
    torch.testing.assert_close(one, logits[:, 1])


def test_without_any_previous_token_to_predict_the_loss_is_finite(
    decoder: Decoder, beliefs: Beliefs
) -> None:
    """An answer that is END alone has the closing pair, whose x[j-1] is the prompt's."""
    losses = BST().loss(decoder, beliefs, closing_batch([4, 2], [3, 1], False))
    assert losses.parts["previous_token"] == 0
    assert losses.total.isfinite()
    assert losses.total > 0


def test_parameters(decoder: Decoder, beliefs: Beliefs) -> None:
    inner = swiglu_width(2 * D)
    joined = 2 * D * 2 * inner + inner * 2 * D + 2 * D
    blocks = sum(count_parameters(block) for block in decoder.blocks)
    assert count_parameters(beliefs) == blocks + D + joined
    assert not any(p is q for p in beliefs.parameters() for q in decoder.parameters())


def test_zero_init_residual_holds_for_the_backward_encoder(decoder: Decoder) -> None:
    config = dataclasses.replace(CONFIG, zero_init_residual=True)
    extra = BST().init(config, END)
    assert isinstance(extra, Beliefs)
    x = torch.randn(2, 3, D)
    expected = F.rms_norm(x, (D,), eps=1e-5)
    torch.testing.assert_close(extra.encode(x, decoder.attended(3, 0, None, None)), expected)


def test_tasks_without_an_end_token_are_refused_as_a_run() -> None:
    made = preset.run("gpt", "smoke", 0)
    assert dataclasses.replace(made, task=A5(), objective=GPT())
    message = "bst needs sequences that close with an end token; a5's have none: choose another"
    with pytest.raises(ValueError, match=message):
        Run(task=A5(), objective=BST(), decoder=made.decoder, training=made.training)
    tags = SimpleNamespace(name="tags", parallel=True, vocab=SimpleNamespace(end=3))
    with pytest.raises(ValueError, match="tags asks for a tag of each token"):
        BST().check_task(tags)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="end = None: bst needs the token"):
        BST().init(CONFIG)


def test_a_run_hands_on_its_end_token() -> None:
    run = preset.run("bst", "smoke", 0)
    extra = build(run).extra
    assert isinstance(extra, Beliefs)
    assert extra.end == run.task.vocab.end
