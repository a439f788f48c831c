"""Examples that were written to a file are those that a model is trained on."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from nextlat_bench.samples import texts, write_samples
from nextlat_bench.tasks._core import Batch, Task
from nextlat_bench.tasks.a5 import A5
from nextlat_bench.tasks.taxi import Taxi

TAXI = Taxi(radius=300, max_nodes=16, max_path=8, max_new=16)


@pytest.mark.parametrize("task", [TAXI, A5(growth=50)], ids=["padded", "packed"])
def test_arrays_are_the_batch(task: Task, tmp_path: Path) -> None:
    batch = task.sample("train", 0, 9)
    write_samples(tmp_path / "a.npz", task, batch)
    made = np.load(tmp_path / "a.npz")
    for field in fields(Batch):
        np.testing.assert_array_equal(made[field.name], getattr(batch, field.name))
    assert tuple(made["vocabulary"]) == task.vocab.tokens


def test_lines_hold_no_padding(tmp_path: Path) -> None:
    """Origin, destination, turns and `end`: from the destination on, each predicts the next."""
    batch = TAXI.sample("train", 0, 9)
    assert (batch.tokens == TAXI.vocab.pad).any()
    write_samples(tmp_path / "a.jsonl", TAXI, batch)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == texts(TAXI, batch)
    for row in rows:
        origin, destination, *turns = (TAXI.vocab.tokens[token] for token in row["tokens"])
        assert row["text"] == f"{origin} -> {destination}: {' '.join(turns)}"
        assert turns[-1] == "end"
        assert row["targets"] == [-1, *row["tokens"][2:], -1]


def test_lines_of_several_documents_hold_them_all(tmp_path: Path) -> None:
    task = A5(growth=50)
    batch = task.sample("train", 0, 2)
    write_samples(tmp_path / "a.jsonl", task, batch)
    for i, line in enumerate((tmp_path / "a.jsonl").read_text().splitlines()):
        row = json.loads(line)
        assert row["tokens"] == batch.tokens[i].tolist()
        pairs = [task.text(batch.tokens[i, t : t + 2]) for t in range(0, 12, 2)]
        assert row["text"] == "; ".join(pairs)


def test_a_document_of_any_number_is_its_own_text() -> None:
    """Held-out rows of the language task are numbered by their files."""
    batch = TAXI.sample("test", 0, 3)
    numbered = replace(batch, document=np.where(batch.document < 0, -1, 57))
    assert texts(TAXI, numbered) == texts(TAXI, batch)
    task = A5(group="S3", length=4)
    two = task.sample("test", 0, 1)
    apart = replace(two, document=np.array([[3, 3, 9, 9]]))
    pairs = [task.text(two.tokens[0, t : t + 2]) for t in (0, 2)]
    assert texts(task, apart) == ["; ".join(pairs)]
