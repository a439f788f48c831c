"""A trained model as two files that can be passed on: model.safetensors and config.json.

config.json     {"format": "nextlat-bench", "schema": 1, "sha256": of the weights, "run": run.json}

`nextlat_bench.subject.load` reads it again. A taxi whose streets came from a file needs that file.
"""

import hashlib
from pathlib import Path
from typing import Any

from nextlat_bench.files import atomic_write
from nextlat_bench.registry import check_name
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, RunDirError, read_json, to_bytes

__all__ = ["CONFIG", "export", "exported_digest", "is_exported", "read_exported"]

FORMAT, SCHEMA = "nextlat-bench", 1
LLAMA = "llama"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def export(run_dir: str | Path, out: str | Path, format: str = FORMAT) -> Path:
    """Writes the trained model of a run folder to `out`, a new or an empty folder.

    format: "nextlat-bench", or "llama": a folder that transformers reads, of objectives whose
    answers are the plain decoder's.
    """
    folder, out = RunDir(run_dir), Path(out)
    check_name("format", format, [FORMAT, LLAMA])
    run, weights = folder.run(), folder.trained_model()
    if format == LLAMA:
        config, weights = as_llama(folder.path)
    else:
        config = {"format": FORMAT, "schema": SCHEMA, "sha256": hashlib.sha256(weights).hexdigest()}
        config["run"] = run.to_json()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: choose another, or empty it")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / WEIGHTS, weights)
    atomic_write(out / CONFIG, to_bytes(config))
    return out


def as_llama(run_dir: Path) -> tuple[dict[str, Any], bytes]:
    """What transformers' Llama reads: its configuration and its weights."""
    from safetensors.torch import save

    from nextlat_bench.llama import check_plain, llama_config, llama_weights
    from nextlat_bench.trained import load_trained  # it imports this module

    trained = load_trained(run_dir)
    check_plain(trained.objective)
    decoder = trained.model.decoder.cpu()
    return llama_config(decoder), save(llama_weights(decoder), metadata={"format": "pt"})


def is_exported(path: str | Path) -> bool:
    """Does the folder say that it is an exported model?"""
    try:
        return read_json(Path(path) / CONFIG).get("format") == FORMAT
    except (RunDirError, OSError):
        return False


def read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    try:
        config = read_json(file)
    except RunDirError:
        raise ValueError(f"{file} is missing or damaged: export the model again") from None
    if config.get("format") != FORMAT:
        raise ValueError(
            f"{file} is not of nextlat-bench; if {path} is a Hugging Face model, read it with "
            "nextlat_bench.adapters or `nextlat-bench probe --model`"
        )
    if config.get("schema") != SCHEMA:
        raise ValueError(
            f"{file} has schema {config.get('schema')!r}, this version reads {SCHEMA}: "
            "use the nextlat-bench version that wrote it, or a newer one"
        )
    return config


def exported_digest(path: str | Path) -> str:
    """SHA-256 of the exported weights, as config.json has it."""
    return str(read_config(Path(path)).get("sha256"))


def read_exported(path: str | Path) -> tuple[Run, bytes]:
    """The run and the weights of an exported folder. A foreign or damaged one is a ValueError."""
    path = Path(path)
    config = read_config(path)
    if not isinstance(config.get("run"), dict):
        raise ValueError(f"{path / CONFIG} is damaged: it holds no run; export the model again")
    run = Run.from_json(config["run"])
    if not (path / WEIGHTS).is_file():
        raise ValueError(f"{path / WEIGHTS} does not exist: export the model again")
    weights = (path / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != config.get("sha256"):
        raise ValueError(f"{path / WEIGHTS} is damaged: export the model again")
    return run, weights
