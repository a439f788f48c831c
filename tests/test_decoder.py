"""The decoder: sizes, masks, cache and the hand-written gradients."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from nextlat_bench import decoder as decoder_module
from nextlat_bench import kernels
from nextlat_bench.decoder import Decoder, KeyValueCache, count_parameters
from nextlat_bench.objectives.nextlat import LatentDynamics
from nextlat_bench.run import DecoderConfig


@pytest.fixture(params=[False, True], ids=["", "marked"])
def small(request: pytest.FixtureRequest) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(layers=3, heads=2, width=32, mark_start=request.param)
    return Decoder(config, vocab_size=20, max_length=32)


def on_meta(layers: int, heads: int, width: int, vocab_size: int) -> Decoder:
    with torch.device("meta"):
        return Decoder(DecoderConfig(layers=layers, heads=heads, width=width), vocab_size, 8)


def test_a5_parameters_are_exactly_those_of_the_paper() -> None:
    decoder = on_meta(2, 8, 512, 60)
    # the printed 6.43M leaves out the input embedding and the output head, 60 x 512 each
    assert count_parameters(decoder) == 6_425_088 + 2 * 60 * 512
    with torch.device("meta"):
        assert count_parameters(LatentDynamics(512, 1024)) == 2_622_464


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [((48, 8, 384, 4589), 88.5), ((12, 6, 384, 104), 21.3), ((12, 12, 768, 10_009), 100.3)],
    ids=["taxi", "path_star", "countdown"],
)
def test_parameters_in_millions(sizes: tuple[int, int, int, int], millions: float) -> None:
    assert count_parameters(on_meta(*sizes)) / 1e6 == pytest.approx(millions, abs=0.06)


def slow_decoder(decoder: Decoder, tokens: list[int]) -> torch.Tensor:
    """Hidden states of one document, position by position, from the definitions."""
    D, H = decoder.config.width, decoder.config.heads
    d = D // H

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean() + 1e-5) * weight

    def rope(x: torch.Tensor, t: int) -> torch.Tensor:
        out = torch.empty_like(x)
        for j in range(d // 2):
            angle = t * 10_000.0 ** (-2 * j / d)
            a, b = x[j], x[j + d // 2]
            out[j] = a * math.cos(angle) - b * math.sin(angle)
            out[j + d // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    xs = [decoder.embedding.weight[token] for token in tokens]
    if decoder.config.mark_start:
        xs[0] = xs[0] + decoder.start
    for block in decoder.blocks:
        attention = block.attention
        normed = [norm(x, block.attention_norm.weight) for x in xs]
        q, k, v = zip(*[(attention.qkv.weight @ x).view(3, H, d) for x in normed], strict=True)
        after = []
        for t, x in enumerate(xs):
            heads = []
            for h in range(H):
                scores = torch.stack(
                    [rope(q[t][h], t) @ rope(k[s][h], s) / math.sqrt(d) for s in range(t + 1)]
                )
                weights = scores.softmax(0)
                heads.append(sum(weights[s] * v[s][h] for s in range(t + 1)))
            after.append(x + attention.out.weight @ torch.cat(heads))
        xs = []
        for x in after:
            gate, up = (block.gate_up.weight @ norm(x, block.mlp_norm.weight)).chunk(2)
            xs.append(x + block.down.weight @ (gate * torch.sigmoid(gate) * up))
    return torch.stack([norm(x, decoder.norm.weight) for x in xs])


def test_decoder_equals_its_definition(small: Decoder) -> None:
    for parameter in small.parameters():  # norms away from 1, so that they show
        parameter.data += 0.1 * torch.randn_like(parameter)
    tokens = torch.randint(20, (1, 9))
    got = small(tokens)[0]
    expected = slow_decoder(small, tokens[0].tolist())
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_only_a_marked_start_tells_one_token_from_several_of_it(small: Decoder) -> None:
    for parameter in small.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    after = small(torch.full((1, 6), 7))[0]
    assert after.isclose(after[0], atol=1e-4).all() != small.config.mark_start


@pytest.mark.parametrize("limit", [0, 128], ids=["fused", "explicit"])
def test_packed_documents_do_not_see_each_other(
    small: Decoder, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "EXPLICIT_ATTENTION_LIMIT", limit)
    a, b = torch.randint(20, (1, 5)), torch.randint(20, (1, 7))
    packed = torch.cat([a, b, torch.zeros(1, 2, dtype=torch.long)], dim=1)
    document = torch.tensor([[0] * 5 + [1] * 7 + [-1] * 2])
    position = torch.tensor([[*range(5), *range(7), 0, 0]])
    hidden = small(packed, document, position)
    assert hidden.isfinite().all()
    torch.testing.assert_close(hidden[:, :5], small(a), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden[:, 5:12], small(b), atol=1e-5, rtol=1e-5)


def test_explicit_and_fused_attention_agree(
    small: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.randint(20, (3, 16))
    explicit = small(tokens)
    monkeypatch.setattr(decoder_module, "EXPLICIT_ATTENTION_LIMIT", 0)
    torch.testing.assert_close(small(tokens), explicit, atol=1e-5, rtol=1e-5)


def test_causal(small: Decoder) -> None:
    tokens = torch.randint(20, (2, 10))
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 20
    before, after = small(tokens), small(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_cache_equals_one_pass(small: Decoder) -> None:
    tokens = torch.randint(20, (4, 12))
    cache = KeyValueCache()
    parts = [small(tokens[:, :5], cache=cache)]
    parts += [small(tokens[:, t : t + 1], cache=cache) for t in range(5, 8)]
    parts += [small(tokens[:, 8:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, 1), small(tokens), atol=1e-5, rtol=1e-5)
    rows = torch.tensor([3, 0, 3])
    assert cache.length == 12
    chosen = cache.select(rows)
    more = torch.randint(20, (3, 2))
    expected = small(torch.cat([tokens[rows], more], 1))[:, -2:]
    torch.testing.assert_close(small(more, cache=chosen), expected, atol=1e-5, rtol=1e-5)
    assert (cache.length, chosen.length) == (12, 14)


def test_too_long_is_an_error(small: Decoder) -> None:
    with pytest.raises(ValueError, match="33 positions asked of a decoder built for 32"):
        small(torch.zeros(1, 33, dtype=torch.long))
    assert small(torch.zeros(1, 32, dtype=torch.long)).shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["rms_norm", "rotated", "smooth_l1", "squared_length", "swiglu"])
def test_hand_written_gradients(name: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 5, 3, 4, 8, requires_grad=True)
    weight = torch.rand(8, requires_grad=True)
    target = torch.randn_like(x)  # nearer than one and farther
    angle = torch.randn(2, 5, 1, 1, 4)
    cos, sin = (torch.cat([f, f], -1) for f in (angle.cos(), angle.sin()))

    def plainly_rotated(x: torch.Tensor) -> torch.Tensor:
        a, b = x[:, :, :2].chunk(2, -1)
        turned = x[:, :, :2] * cos + torch.cat([-b, a], -1) * sin
        return torch.cat([turned, x[:, :, 2:]], 2).transpose(1, 3)

    pairs = {
        "rms_norm": (
            lambda: kernels.rms_norm(x, weight, 1e-5),
            lambda: F.rms_norm(x, (8,), weight, 1e-5),
        ),
        "rotated": (
            lambda: torch.stack(kernels.rotated(x, cos, sin, kernels.quarter_turn(8)), 2),
            lambda: plainly_rotated(x),
        ),
        "smooth_l1": (
            lambda: kernels.smooth_l1(x, target),
            lambda: F.smooth_l1_loss(x, target),
        ),
        "squared_length": (
            lambda: kernels.squared_length(x),
            lambda: x.square().sum(-1, keepdim=True),
        ),
        "swiglu": (
            lambda: kernels.swiglu(x),
            lambda: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
        ),
    }
    ours, reference = (f() for f in pairs[name])
    torch.testing.assert_close(ours, reference)
    with torch.no_grad():  # goes another way
        assert torch.equal(pairs[name][0](), ours)
    upstream = torch.randn_like(ours)
    inputs = [x, weight] if name == "rms_norm" else [x]
    got = torch.autograd.grad((ours * upstream).sum(), inputs)
    expected = torch.autograd.grad((reference * upstream).sum(), inputs)
    torch.testing.assert_close(got, expected)


def test_the_gradient_of_a_divergence() -> None:
    """Scaled by what comes after it: a weight, a share of the horizon."""
    given, teacher = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    logits, p = given.requires_grad_(), teacher.softmax(-1)
    information = (p * p.log()).sum(-1)
    ours = kernels.kl_divergence(logits, p, information)
    reference = F.kl_div(logits.log_softmax(-1), p, reduction="batchmean")
    torch.testing.assert_close(ours, reference)
    got, expected = (torch.autograd.grad(0.3 * f, logits) for f in (ours, reference))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["kl_divergence", "rms_norm", "smooth_l1"])
def test_half_precision_is_computed_in_single(name: str) -> None:
    """As the same numbers in float32 are, but for the gradient, which is rounded once."""
    generator = torch.Generator().manual_seed(0)
    given, other = (10 * torch.randn(64, 32, generator=generator) for _ in range(2))
    p, weight = other.softmax(-1), other[0]
    piece: Callable[[Tensor], Tensor] = {
        "kl_divergence": lambda x: kernels.kl_divergence(x, p, torch.zeros(64)),
        "rms_norm": lambda x: kernels.rms_norm(x, weight, 1e-5),
        "smooth_l1": lambda x: kernels.smooth_l1(x, x.detach().float() + 0.01 * other),
    }[name]
    half = given.bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    found, expected = piece(half), piece(single)
    torch.testing.assert_close(found, expected)
    [got], [wanted] = (
        torch.autograd.grad(f.square().sum(), x) for f, x in ((found, half), (expected, single))
    )
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted.bfloat16())


def test_more_numbers_than_a_gpu_multiplies_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, teacher = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    p, information = teacher.softmax(-1), torch.zeros(5)
    expected = kernels.kl_divergence(logits, p, information)
    monkeypatch.setattr(kernels, "LONGEST_DOT", 34)
    monkeypatch.setattr(torch, "dot", None)  # it is not asked
    torch.testing.assert_close(kernels.kl_divergence(logits, p, information), expected)


@pytest.mark.parametrize("bf16", [False, True])
def test_layers_share_the_mask_of_packed_documents(bf16: bool) -> None:
    """Each would keep a copy of its own, as large as the scores of a head."""
    decoder, T = Decoder(DecoderConfig(layers=3, heads=2, width=16), 10, 192), 192
    document = torch.arange(T).div(48, rounding_mode="floor").expand(1, T)
    position = (torch.arange(T) % 48).expand(1, T)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[-2:] == (T, T):
            kept[tensor.untyped_storage().data_ptr()] = tensor.ndim
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        decoder(torch.randint(10, (1, T)), document, position)
    assert len(kept) == 1


def test_a_compiled_decoder_is_one_graph() -> None:
    """For all its blocks, of which none is left in the middle."""
    decoder = Decoder(DecoderConfig(layers=2, heads=2, width=16), 10, 8)
    tokens, graphs = torch.randint(10, (2, 6)), []

    def kept(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def gradients() -> list[Tensor]:
        loss = decoder.head(decoder(tokens)).square().mean()
        return list(torch.autograd.grad(loss, list(decoder.parameters())))

    before = gradients()
    for block in decoder.blocks:
        block.compile(backend=kept)
    torch.testing.assert_close(gradients(), before)
    assert len(graphs) == 1


def test_zero_residual_starts_as_the_identity() -> None:
    config = DecoderConfig(layers=2, heads=2, width=16, zero_init_residual=True)
    decoder = Decoder(config, 10, 8)
    tokens = torch.randint(10, (1, 6))
    x, _ = decoder.trunk(tokens)
    torch.testing.assert_close(x, decoder.embedding(tokens))
