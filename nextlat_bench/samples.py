"""Examples of a task to a file that other tools read: NPZ arrays, or JSON Lines."""

import json
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import numpy as np

from nextlat_bench.files import atomic_write
from nextlat_bench.tasks._core import Batch, Task

__all__ = ["texts", "write_samples"]


def texts(task: Task, batch: Batch) -> list[str]:
    """Each row's text; of rows that hold several documents, one after the other."""
    found = []
    for tokens, documents in zip(batch.tokens, batch.document, strict=True):
        numbers = np.unique(documents[documents >= 0])  # which need not begin at 0
        each = [task.text(tokens[documents == number]) for number in numbers]
        found.append("; ".join(each) if len(each) > 1 else task.text(tokens))
    return found


def write_samples(path: str | Path, task: Task, batch: Batch) -> None:
    """Writes what a model is trained on, or lines with readable text; the suffix decides how."""
    path = Path(path)
    if path.suffix == ".npz":
        buffer = BytesIO()
        np.savez_compressed(
            buffer,
            **{field.name: getattr(batch, field.name) for field in fields(batch)},
            vocabulary=task.vocab.tokens,
        )
        atomic_write(path, buffer.getvalue())
    elif path.suffix == ".jsonl":
        rows = (
            {"tokens": tokens[used].tolist(), "targets": targets[used].tolist(), "text": text}
            for tokens, targets, used, text in zip(
                batch.tokens, batch.targets, batch.document >= 0, texts(task, batch), strict=True
            )
        )
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write(path, lines.encode())
    else:
        raise ValueError(f"--out {path}: expected a name that ends in .npz or .jsonl")
