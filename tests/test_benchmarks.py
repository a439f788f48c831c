"""The benchmarks' own arithmetic, and that equal work is equal: our decoder is their Llama."""

import queue
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _core

    return _core


def test_an_unknown_benchmark_is_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "traning"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "traning" in done.stderr
    assert "training" in done.stderr


@pytest.mark.usefixtures("core")
def test_a_missing_peer_is_one_line_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import startup
    from benchmarks.__main__ import main

    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setattr(startup, "run", None)
    assert main(["startup", "generators"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "not installed: reasoning_gym; " in said.err


@pytest.mark.usefixtures("core")
def test_on_a_machine_with_a_gpu_both_sides_decode_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import probing

    folder = SimpleNamespace(is_trained=True, path=Path("runs/taxi"))
    monkeypatch.setattr(probing.RunDir, "prepare", lambda *given: folder)
    monkeypatch.setattr(probing, "load_trained", lambda path, device=None: device)
    assert probing.trained() == "cpu"


@pytest.mark.usefixtures("core")
def test_a_worker_that_died_is_not_waited_for() -> None:
    from benchmarks.parallel import received

    ended: list[int] = []
    codes = enumerate((None, -9))
    processes = [
        SimpleNamespace(exitcode=c, terminate=lambda i=i: ended.append(i)) for i, c in codes
    ]
    results: queue.Queue[list[float]] = queue.Queue()
    results.put([1.0])
    assert received(results, processes) == [1.0]
    with pytest.raises(RuntimeError, match="a worker died"):
        received(results, processes)
    assert ended == [0, 1]


@pytest.mark.usefixtures("core")
def test_padding_is_no_agreement() -> None:
    from benchmarks.decoding import agreement

    ours = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 0, 0]])
    assert agreement(ours, ours[:, :4], pad=0) == 1.0
    assert agreement(ours, np.array([[1, 9, 3], [4, 5, 6]]), pad=0) == 5 / 7


def test_sides_take_turns(core: Any) -> None:
    seen: list[str] = []
    sides = {name: lambda name=name: seen.append(name) for name in "ab"}
    seconds = core.alternate(sides, rounds=2, calls=2)
    assert "".join(seen) == "ab" + "abba" + "baab"  # not timed, then each turn the other way round
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_within_a_round(core: Any) -> None:
    assert core.ratio([2.0, 30.0, 5.0], [1.0, 10.0, 1.0]) == [2.0, 3.0, 5.0]
    assert core.shown([1.0, 2.0, 3000.0], 1) == "2.0 [1.0, 3,000.0]"


def test_a_section_is_a_table(core: Any) -> None:
    section = core.Section("Title", ["what", "ms"], notes=["A note."])
    section.add("ours", "1")
    assert section.markdown().splitlines() == [
        "### Title",
        "",
        "| what | ms |",
        "|:--|--:|",
        "| ours | 1 |",
        "",
        "A note.",
    ]


def test_counted_products_are_those_that_torch_counts(core: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.peers import Shape
    from benchmarks.training import as_batch, matrix_flops, ours
    from nextlat_bench.objectives.nextlat import NextLat

    shape = Shape(layers=2, heads=2, width=64, batch=4, length=16)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(30, size=(4, 17)))
    model: Any = ours(NextLat(horizon=2), shape, tokens, vocab=30)[0]
    with FlopCounterMode(display=False) as counter:
        NextLat(horizon=2).loss(model.decoder, model.extra, as_batch(tokens)).total.backward()
    # left out of ours: the rotation, which is a product too, and the table of tokens
    assert counter.get_total_flops() == pytest.approx(matrix_flops(2, shape, 30), rel=0.15)


def test_the_decoder_is_a_llama(core: Any) -> None:
    pytest.importorskip("transformers", reason="a peer of the benchmarks: pip install '.[bench]'")
    from benchmarks.decoding import as_llama
    from nextlat_bench.decoder import Decoder
    from nextlat_bench.run import DecoderConfig

    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(layers=2, heads=2, width=64), 30, 16)
    for parameter in decoder.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    tokens = torch.randint(30, (3, 16))
    with torch.inference_mode():
        wanted = as_llama(decoder)(input_ids=tokens).logits
        torch.testing.assert_close(decoder.head(decoder(tokens)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # test_presets counts the objectives without a horizon
@pytest.mark.usefixtures("core")
def test_the_papers_parameters_are_counted_to_the_last_digit() -> None:
    from benchmarks.cost import counted

    for line in counted().markdown().splitlines()[4:-1]:
        name, ours, theirs, _ = (cell.strip() for cell in line.strip("|").split("|"))
        assert theirs in (ours, "–"), name  # noqa: RUF001


@pytest.mark.usefixtures("core")
def test_every_objective_is_costed_by_steps_of_its_own() -> None:
    from benchmarks.cost import Side, measured, runs

    named = runs("smoke")
    horizons = [f"{name} d={d}" for name in ("mtp", "jtp", "nextlat") for d in (1, 2, 8)]
    assert list(named) == ["gpt", *horizons, "bst"]
    side = Side(named["nextlat d=2"])
    before = [weight.clone() for weight in side.model.parameters()]
    side()
    side()  # the first moves no weight behind a residual branch that begins at zero
    assert all(not torch.equal(*pair) for pair in zip(before, side.model.parameters(), strict=True))
    table = measured("Smoke", {name: Side(named[name]) for name in ("gpt", "mtp d=8")})
    assert table.facts["gpt"]["ratio"] == [1.0, 1.0, 1.0]
    assert table.facts["mtp d=8"]["ratio"][1] > 1
    assert table.facts["mtp d=8"]["paper_ratio"] == pytest.approx(3.09 / 1.70)


def test_time_is_put_where_it_went(core: Any) -> None:
    from benchmarks.breakdown import KINDS, PRODUCTS, REST, by_kind, profiled
    from benchmarks.peers import Shape
    from nextlat_bench.objectives.nextlat import NextLat

    a = torch.randn(512, 512, requires_grad=True)
    known = {
        PRODUCTS: lambda: torch.autograd.grad(a @ a, a, a),
        "elementwise": lambda: torch.autograd.grad(torch.nn.functional.gelu(a), a, a),
        "softmax": lambda: torch.autograd.grad(a.softmax(-1), a, a),
        "casts and copies": lambda: a.to(torch.float64),
        "rows by their index": lambda: a[torch.arange(512)],
        "sums and norms": lambda: torch.linalg.vector_norm(a, dim=-1),
    }
    for kind, step in known.items():
        seconds = by_kind(step)
        took = {name for name, each in seconds.items() if each} - {REST}
        assert took - ({"elementwise"} if kind == PRODUCTS else set()) == {
            kind
        }  # two gradients, a sum
    shape, tokens = Shape(2, 2, 64, 8, 32), torch.randint(300, (8, 33))
    seconds = profiled(NextLat(horizon=2), shape, tokens, vocab=300)
    assert list(seconds) == [*KINDS, REST]
    assert min(seconds.values()) > 0
