"""Examples of a task (NumPy) -> tensors of a training step (torch)."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from nextlat_bench import parallel
from nextlat_bench.tasks._core import Batch, IntArray, Task

__all__ = ["TensorBatch", "pack", "step_batches", "to_tensors"]


@dataclass(frozen=True)
class TensorBatch:
    """B rows of T positions; see `nextlat_bench.tasks._core.Batch` for the meaning of each."""

    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T), -1 where unscored
    document: Tensor  # (B, T), -1 where padding
    position: Tensor  # (B, T)
    scored: Tensor  # (S,) indices of the scored positions in the flattened batch
    packed: bool  # more than one document a row

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the decoder takes: unpacked rows are right-padded, so plain causality suffices."""
        if self.packed:
            return self.tokens, self.document, self.position
        return self.tokens, None, None

    @property
    def scored_targets(self) -> Tensor:  # (S,)
        return self.targets.flatten()[self.scored]

    def ahead(self, horizon: int) -> Iterator[tuple[int, Tensor]]:
        """(i, at) for i = 0..horizon: the flat positions `at` that lie i steps after some position
        of the same document, which is then `at - i`. No pair crosses a boundary at any step."""
        same = torch.zeros_like(self.document, dtype=torch.bool)
        same[:, :-1] = self.document[:, :-1] == self.document[:, 1:]
        continues = same.flatten()  # the next position holds the next token of the document
        at = (self.document.flatten() >= 0).nonzero().squeeze(1)
        for i in range(horizon + 1):
            if i:
                at = at[continues[at]] + 1
            yield i, at


def pack(batch: Batch, row_length: int) -> Batch:
    """Whole documents side by side, best fit first: rows of `row_length`, hardly any padding."""
    lengths = batch.lengths
    if len(lengths) and lengths.max() > row_length:
        raise ValueError(f"row_length = {row_length}: the longest document has {lengths.max()}")
    order = np.argsort(-lengths, kind="stable")
    rows = np.empty(len(order), dtype=np.int64)
    starts = np.empty(len(order), dtype=np.int64)
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]  # by room left
    rooms = 0  # bit r is set where some row has room for r more tokens
    num_rows = 0
    for i, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1  # the tightest fit
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms &= ~(1 << room)
        else:
            room, row, num_rows = row_length, num_rows, num_rows + 1
        rows[i], starts[i] = row, row_length - room
        open_rows[room - length].append(row)
        rooms |= 1 << (room - length)
    # where each used token of each document goes
    document, offset = np.nonzero(batch.document >= 0)
    target = rows[document], starts[document] + offset
    shape = (num_rows, row_length)

    def placed(values: IntArray, fill: int) -> IntArray:
        out = np.full(shape, fill, dtype=np.int64)
        out[target] = values[document, offset]
        return out

    identity = np.broadcast_to(np.arange(len(lengths))[:, None], batch.document.shape)
    return Batch(
        tokens=placed(batch.tokens, 0),
        targets=placed(batch.targets, -1),
        document=placed(identity, -1),
        position=placed(batch.position, 0),
    )


def to_tensors(batch: Batch, packed: bool, device: torch.device | str = "cpu") -> TensorBatch:
    """NumPy -> torch, trimmed to the longest row."""
    used = int(np.flatnonzero((batch.document >= 0).any(axis=0)).max(initial=-1)) + 1
    tokens, targets, document, position = (
        torch.from_numpy(np.ascontiguousarray(values[:, :used], dtype=np.int64)).to(device)
        for values in (batch.tokens, batch.targets, batch.document, batch.position)
    )
    scored = (targets.flatten() >= 0).nonzero().squeeze(1)
    return TensorBatch(tokens, targets, document, position, scored, packed)


def checked(batch: Batch, task: Task, n: int | None = None) -> Batch:
    """The batch, or a ValueError if a task of somebody's own gave what cannot be trained on.

    `n`: how many rows were asked for of a split that has them all.
    """
    who = f"{task.name}.sample"
    if not isinstance(batch, Batch):
        raise ValueError(f"{who} gave a {type(batch).__name__}: expected a Batch")
    arrays = {field.name: getattr(batch, field.name) for field in fields(batch)}
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or len(shapes["tokens"]) != 2:
        raise ValueError(f"{who} gave arrays of shapes {shapes}: expected (n, L) of each")
    if n is not None and len(batch.tokens) != n:
        raise ValueError(f"{who} gave {len(batch.tokens)} rows of training examples: expected {n}")
    if other := [
        name for name, array in arrays.items() if np.asarray(array).dtype.kind not in "iu"
    ]:
        raise ValueError(f"{who} gave {other[0]} that are no whole numbers")
    for name, lowest in (("tokens", 0), ("targets", -1)):
        array, highest = arrays[name], len(task.vocab) - 1
        if array.size and not lowest <= array.min() <= array.max() <= highest:
            raise ValueError(
                f"{who} gave {name} from {array.min()} to {array.max()}: "
                f"expected {lowest} to {highest}, by its vocabulary"
            )
    used, begins = batch.document >= 0, np.diff(batch.document, axis=1, prepend=-1) != 0
    if (used[:, 1:] > used[:, :-1]).any():
        raise ValueError(f"{who} gave padding before tokens of a row: expected it after them all")
    columns = np.arange(used.shape[1])
    first = np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    if (used & (batch.position != columns - first)).any():
        raise ValueError(f"{who} gave positions that do not count from 0 in each document")
    scored = (batch.targets >= 0).any() and (batch.document >= 0).any()
    if len(batch.tokens) and not scored:
        num = len(batch.tokens)
        raise ValueError(f"{who} gave no scored target in {num} examples: nothing to learn from")
    return batch


def step_batches(
    task: Task,
    step: int,
    examples: int,
    row_length: int | None,
    micro_batches: int,
    device: torch.device | str = "cpu",
) -> list[TensorBatch]:
    """This process's micro-batches of a training step: a function of its arguments, so a resume is
    exact."""
    batch = checked(task.sample("train", step * examples, examples), task, examples)
    packed = bool((batch.document > 0).any())  # rows of several documents stay as they are
    if row_length is not None and not packed:
        batch, packed = pack(batch, row_length), True
    arrays = batch.tokens, batch.targets, batch.document, batch.position
    parts = [Batch(*(a[i::micro_batches] for a in arrays)) for i in range(micro_batches)]
    own = parallel.own([part for part in parts if len(part)])
    return [to_tensors(part, packed, device) for part in own]
