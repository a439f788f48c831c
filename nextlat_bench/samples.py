"""Examples of a task to a file that other tools read: NPZ arrays, or JSON Lines."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np

from nextlat_bench.run_dir import atomic_write
from nextlat_bench.tasks._core import Batch, Task

__all__ = ["write_samples"]


def write_samples(path: Path, task: Task, batch: Batch) -> None:
    """Writes tokens, targets and readable text; the suffix decides how."""
    if path.suffix == ".npz":
        buffer = BytesIO()
        np.savez_compressed(
            buffer, tokens=batch.tokens, targets=batch.targets, vocabulary=task.vocab.tokens
        )
        atomic_write(path, buffer.getvalue())
    elif path.suffix == ".jsonl":
        rows = (
            {"tokens": tokens[:length].tolist(), "text": task.text(tokens)}
            for tokens, length in zip(batch.tokens, batch.lengths.tolist(), strict=True)
        )
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write(path, lines.encode())
    else:
        raise ValueError(f"--out {path}: expected a name that ends in .npz or .jsonl")
