"""What a machine can do, and what is asked of it."""

import pytest
import torch

from nextlat_bench import device
from nextlat_bench.device import chosen_device, chosen_precision, native_bf16
from nextlat_bench.run import Training


@pytest.mark.parametrize("native", [False, True])
def test_a_precision_that_was_asked_for_is_taken(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "native_bf16", lambda device: native)
    chosen = {
        asked: chosen_precision(Training(steps=1, examples=1, precision=asked), "cpu")
        for asked in ("auto", "bf16", "fp32")
    }
    assert chosen == {"auto": "bf16" if native else "fp32", "bf16": "bf16", "fp32": "fp32"}


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, by_default in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert (chosen_device(None), chosen_device("cpu")) == (by_default, "cpu")
    with pytest.raises(ValueError, match=r"--device cuda: this machine has cpu$"):
        chosen_device("cuda")


@pytest.mark.parametrize(("avx", "amx"), [(False, False), (False, True), (True, False)])
def test_bf16_is_native_where_either_unit_multiplies_it(
    avx: bool, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert native_bf16("cpu") == (avx or amx)


def test_a_gpu_that_emulates_bf16_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not native_bf16("cuda")
