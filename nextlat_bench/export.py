"""A trained model as two files that can be passed on: model.safetensors and config.json.

config.json     {"format": "nextlat-bench", "schema": 1, "sha256": of the weights, "run": run.json}

`nextlat_bench.subject.load` reads it again. A taxi whose streets came from a file needs that file.
"""

import hashlib
from pathlib import Path
from typing import Any

from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir, atomic_write, read_json, to_bytes

__all__ = ["CONFIG", "export", "exported_digest", "is_exported", "read_exported"]

FORMAT, SCHEMA = "nextlat-bench", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def export(run_dir: str | Path, out: str | Path) -> Path:
    """Writes the trained model of a run folder to `out`, a new or an empty folder."""
    folder, out = RunDir(run_dir), Path(out)
    run, weights = folder.run(), folder.trained_model()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: choose another, or empty it")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / WEIGHTS, weights)
    config = {"format": FORMAT, "schema": SCHEMA, "sha256": hashlib.sha256(weights).hexdigest()}
    atomic_write(out / CONFIG, to_bytes(config | {"run": run.to_json()}))
    return out


def is_exported(path: str | Path) -> bool:
    """Does the folder say that it is an exported model?"""
    config = Path(path) / CONFIG
    return config.is_file() and read_json(config).get("format") == FORMAT


def read_config(path: Path) -> dict[str, Any]:
    config = read_json(path / CONFIG)
    if config.get("format") != FORMAT:
        raise ValueError(
            f"{path / CONFIG} is not of nextlat-bench; if {path} is a Hugging Face model, read it "
            "with nextlat_bench.adapters or `nextlat-bench probe --model`"
        )
    if config.get("schema") != SCHEMA:
        raise ValueError(
            f"{path / CONFIG} has schema {config.get('schema')!r}, this version reads {SCHEMA}: "
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
