"""The machine that a model is on: its GPU or CPU, and what that can do."""

import platform
from pathlib import Path

import torch

from nextlat_bench.run import Training

__all__ = ["check_compiler", "chosen_device", "chosen_precision", "cpu_name", "native_bf16"]


def chosen_device(device: str | torch.device | None) -> str:
    """`device`, by default a GPU where there is one; a ValueError if it is not to be had."""
    device = device if device is None else str(device)
    available = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if device is not None and device not in available:
        raise ValueError(f"--device {device}: this machine has {' and '.join(available)}")
    return device or available[0]


def native_bf16(device: str) -> bool:
    """bf16 only where the hardware multiplies it natively: emulation is slower than fp32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def chosen_precision(training: Training, device: str) -> str:
    """fp32 or bf16: what "auto" comes to on this device."""
    if training.precision != "auto":
        return training.precision
    return "bf16" if native_bf16(device) else "fp32"


def check_compiler(device: str) -> None:
    """Refuses --compile where torch.compile would find no C++ compiler."""
    if device != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError):
        raise ValueError(
            "--compile needs a C++ compiler and finds none: install g++, or name one by CXX=PATH, "
            "or train without --compile, in a folder that was not begun with it"
        ) from None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
