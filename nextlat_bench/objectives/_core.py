"""The contract of an objective: strategy outside, state (the extra modules) passed through."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Decoder, KeyValueCache
from nextlat_bench.run import DecoderConfig
from nextlat_bench.tasks._core import Task, check_count, check_number

__all__ = [
    "Losses",
    "MultiToken",
    "Objective",
    "ahead_loss",
    "check_horizon",
    "mean_by_position",
    "scored_loss",
    "stream_of",
]

FARTHEST = 1_000  # steps ahead


@dataclass(frozen=True)
class Losses:
    """`total` is what is minimised; `parts` are its unweighted terms, for the log."""

    total: Tensor  # ()
    parts: dict[str, Tensor]  # each (), detached
    hidden: Tensor  # (B, T, D), detached: the trainer logs its scale, so that collapse is seen


def stream_of(batch: TensorBatch) -> torch.Generator:
    """For what an objective draws; by the batch's own tokens, so that a resumed run repeats it."""
    tokens = batch.tokens.flatten()
    places = torch.arange(1, len(tokens) + 1, device=tokens.device)
    return torch.Generator(tokens.device).manual_seed(int((tokens * places).sum()))


def mean_by_position(hidden: Tensor, document: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, D) -> (T, D), (T,): the mean state at each position in a document, and of how many;
    zero where no document is as long."""
    used = (document >= 0).flatten().to(hidden.dtype)
    at, size = position.flatten(), hidden.shape[1]
    count = used.new_zeros(size, dtype=torch.float32).index_add(0, at, used.float())
    total = hidden.new_zeros(size, hidden.shape[2])
    total = total.index_add(0, at, hidden.flatten(0, 1) * used.unsqueeze(1))
    return total / count.clamp(min=1).unsqueeze(1).to(hidden.dtype), count


class Objective(ABC):
    """A frozen, keyword-only dataclass: its fields are its parameters."""

    name: ClassVar[str]
    head_blocks: ClassVar[int] = 0  # of the decoder's blocks the last ones, which are a head's

    def check_task(self, task: Task) -> None:
        """Raises a ValueError that says why, if this objective cannot be trained on the task."""
        return

    def decoder(self, config: DecoderConfig, vocab_size: int, max_length: int) -> Decoder:
        """The decoder that is trained; an objective may do without parts of it."""
        return Decoder(config, vocab_size, max_length)

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        """Extra modules beside the decoder; none by default.

        end: the token that closes the task's sequences, if one does.
        """
        return nn.Module()

    def init_beside(
        self, decoder: Decoder, config: DecoderConfig, end: int | None = None
    ) -> nn.Module:
        """`init`, for modules that are made of the decoder: a teacher begins as its copy."""
        return self.init(config, end)

    @abstractmethod
    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        """The losses of one micro-batch, of (B, T) tokens; `total` is minimised.

        `decoder` and `extra` are what `decoder` and `init` made. It must be a function of its
        arguments alone, so that a resumed run repeats it: draw from `stream_of(batch)`.
        """

    def after_step(self, decoder: Decoder, extra: nn.Module, done: int, steps: int) -> None:
        """Called without gradients when `done` of `steps` steps have moved the weights, in each
        process alike: for a teacher that follows them, or a weight of the loss that grows.

        What it changes has to be a parameter or a buffer, which a checkpoint holds.
        """
        return

    def rate_of(self, name: str) -> float:
        """The share of the learning rate at which the parameter of this name, as `extra.weight`,
        is trained."""
        return 1.0

    def hidden(
        self,
        decoder: Decoder,
        extra: nn.Module,
        tokens: Tensor,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T, D): the hidden states that are probed, after the final norm."""
        return decoder(tokens, cache=cache)  # type: ignore[no-any-return]

    def logits(self, decoder: Decoder, extra: nn.Module, hidden: Tensor, tokens: Tensor) -> Tensor:
        """(..., D) hidden states and (...) tokens at the same positions -> (..., V): this
        objective's own inference path."""
        return decoder.head(hidden)  # type: ignore[no-any-return]


def check_horizon(horizon: int, task: Task) -> None:
    """No training sequence has tokens farther ahead; their losses would be means of nothing."""
    if horizon >= task.max_length:
        raise ValueError(
            f"horizon = {horizon}: sequences of {task.name} have {task.max_length} tokens at most, "
            f"so no token is farther ahead than {task.max_length - 1}"
        )


@dataclass(frozen=True, kw_only=True)
class MultiToken(Objective):
    """What MTP and JTP share: `horizon` tokens beyond the next one, their losses at `weight`."""

    horizon: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_count(self, "horizon", most=FARTHEST)
        check_number(self, "weight")

    def check_task(self, task: Task) -> None:
        check_horizon(self.horizon, task)

    def combine(self, losses: list[Tensor], hidden: Tensor) -> Losses:
        """CE_0 + weight * mean of CE_1..CE_d."""
        next_token, beyond = losses[0], torch.stack(losses[1:]).mean()
        parts = {"next_token": next_token.detach(), "beyond": beyond.detach()}
        return Losses(next_token + self.weight * beyond, parts, hidden.detach())


# Objectives take rows that need a gradient by index_select: indexing's takes two to five times as
# long on a CPU.
def scored_loss(decoder: Decoder, hidden: Tensor, batch: TensorBatch) -> tuple[Tensor, Tensor]:
    """Cross-entropy at the scored positions of (B, T, D) hidden states, and their logits (S, V);
    zero where nothing is scored."""
    logits = decoder.head(hidden.flatten(0, 1).index_select(0, batch.scored)).float()
    if len(logits) == 0:
        return nothing(hidden), logits
    return F.cross_entropy(logits, batch.scored_targets), logits


def nothing(hidden: Tensor) -> Tensor:
    """A loss of zero, from which a backward pass can begin as from any other."""
    return 0.0 * hidden.float().sum()


def ahead_loss(
    decoder: Decoder, h: Tensor, source: Tensor, at: Tensor, batch: TensorBatch
) -> Tensor:
    """Cross-entropy of the targets at flat positions `at`, where scored, read from h[source].

    `h`: (N, D); zero where nothing is scored.
    """
    target = batch.targets.flatten()[at]
    keep = target >= 0
    if not bool(keep.any()):
        return nothing(h)
    states = h.index_select(0, source[keep])
    return F.cross_entropy(decoder.head(states).float(), target[keep])
