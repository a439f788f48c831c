"""Packing: every document once, whole, in order; and hardly any padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONFIG, V, initialised, made_batch, noisy

from nextlat_bench import registry
from nextlat_bench.data import checked, pack, step_batches, to_tensors
from nextlat_bench.tasks._core import Batch
from nextlat_bench.tasks.a5 import A5

PAD = 99


def batch_of(lengths: list[int], seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    tokens = np.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        tokens[row, :length] = rng.integers(PAD, size=length)
    targets = np.full_like(tokens, -1)
    targets[:, 1:-1] = np.where(tokens[:, 2:] == PAD, -1, tokens[:, 2:])
    return Batch.of_sequences(tokens, targets, PAD)


def contents(batch: Batch) -> list[tuple[tuple[int, ...], ...]]:
    """The documents of a batch: (tokens, targets, positions), sorted."""
    found = []
    for row in range(len(batch)):
        for document in np.unique(batch.document[row]):
            if document >= 0:
                at = batch.document[row] == document
                columns = np.flatnonzero(at)
                assert (np.diff(columns) == 1).all()  # in one piece
                arrays = batch.tokens, batch.targets, batch.position
                found.append(tuple(tuple(a[row, at].tolist()) for a in arrays))
    return sorted(found)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 50))
def test_packing_keeps_every_document(lengths: list[int], row_length: int) -> None:
    batch = batch_of(lengths)
    packed = pack(batch, row_length)
    assert packed.tokens.shape[1] == row_length
    assert contents(packed) == contents(batch)
    padding = packed.document < 0
    assert (packed.targets[padding] == -1).all()


def test_packing_wastes_little() -> None:
    lengths = np.random.default_rng(0).integers(5, 35, size=400).tolist()
    packed = pack(batch_of(lengths), 68)
    assert (packed.document >= 0).mean() > 0.97


def test_a_document_too_long_is_an_error() -> None:
    with pytest.raises(ValueError, match="row_length = 6: the longest document has 7"):
        pack(batch_of([3, 7]), 6)


def test_micro_batches_partition_the_step(taxi) -> None:  # type: ignore[no-untyped-def]
    whole = step_batches(taxi, 3, 64, 80, 1)
    parts = step_batches(taxi, 3, 64, 80, 4)
    assert len(parts) == 4
    assert sum(len(p.tokens) for p in parts) == len(whole[0].tokens)
    assert sum(int((p.targets >= 0).sum()) for p in parts) == int((whole[0].targets >= 0).sum())
    again = step_batches(taxi, 3, 64, 80, 4)
    assert all((a.tokens == b.tokens).all() for a, b in zip(parts, again, strict=True))
    other = step_batches(taxi, 4, 64, 80, 1)[0]
    assert other.tokens.shape != whole[0].tokens.shape or (other.tokens != whole[0].tokens).any()


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_a_micro_batch_with_nothing_scored_is_no_nan(name: str) -> None:
    """Nor are its gradients, with any objective."""
    batch = made_batch(packed=False)
    nothing = replace(batch, targets=torch.full_like(batch.targets, -1), scored=batch.scored[:0])
    objective = registry.load("objectives", name)()
    decoder, extra = noisy(objective.decoder(CONFIG, V, 32), 0), initialised(objective)
    losses = objective.loss(decoder, extra, nothing)
    assert float(losses.parts["next_token"]) == 0
    losses.total.backward()
    for parameter in (*decoder.parameters(), *extra.parameters()):
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_unpacked_rows_are_trimmed() -> None:
    batch = batch_of([3, 5, 2])
    tensors = to_tensors(batch, packed=False)
    assert tensors.tokens.shape == (3, 5)
    assert tensors.inputs[1] is None
    assert tensors.scored_targets.tolist() == batch.targets[batch.targets >= 0].tolist()


def test_documents_go_where_they_fit_tightest() -> None:
    """6 + 4 and 5 + 3 + 2; the 4 beside the 5 would leave no place for the 2."""
    packed = pack(batch_of([2, 6, 3, 5, 4]), 10)
    assert len(packed) == 2


def test_a_step_reads_training_examples_of_its_own(taxi) -> None:  # type: ignore[no-untyped-def]
    """The first 66, the next, and those after; in packed rows, dealt out evenly."""
    for step in range(3):
        parts = step_batches(taxi, step, 66, 80, 4)
        rows = [len(part.tokens) for part in parts]
        assert max(rows) - min(rows) <= 1
        assert sum(rows) < 66
        found = [
            document
            for p in parts
            for document in contents(
                Batch(*(a.numpy() for a in (p.tokens, p.targets, p.document, p.position)))
            )
        ]
        assert sorted(found) == contents(taxi.sample("train", 66 * step, 66))


def test_rows_of_several_documents_stay_as_they_are() -> None:
    """Laid side by side, each would count as one document."""
    task = A5(growth=50)
    (plain,), (asked,) = (step_batches(task, 0, 25, length, 1) for length in (None, 24))
    assert plain.document.max() > 0
    assert torch.equal(asked.tokens, plain.tokens)
    assert torch.equal(asked.document, plain.document)


def test_rows_that_would_be_misread_are_refused() -> None:
    """Unpacked ones are read without a mask; packed ones keep the positions they bring."""
    task = A5(growth=50)
    batch = task.sample("train", 0, 8)
    tokens, targets, document, position = vars(batch).values()
    checked(batch, task)
    ahead = document.copy()
    ahead[3, 0] = -1
    with pytest.raises(ValueError, match=r"a5\.sample gave padding before tokens of a row"):
        checked(Batch(tokens, targets, ahead, position), task)
    for other in (position + 1, np.broadcast_to(np.arange(12), position.shape)):
        with pytest.raises(ValueError, match="positions that do not count from 0 in each doc"):
            checked(Batch(tokens, targets, document, other), task)
