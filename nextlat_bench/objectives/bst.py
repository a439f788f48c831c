"""BST: a prefix and a suffix predict the token after the one and the token before the other.

Source: Hu et al. 2025 (arXiv 2410.23506). f[t] is the decoder's hidden state after x[1..t], b[j]
that of a second, backward encoder after x[T..j], read from right to left. For t < j of a document:

    z = [f[t]; b[j]]      [p; q] = RMSNorm(z + SwiGLU(z))      p -> x[t+1],    q -> x[j-1]
    L = (CE_p + CE_q) / 2                                      both by the shared output head

The pairs are all with j >= t + 2, so that neither answer stands in the pair itself, and, for
closing to be learnt, (T-1, T) where x[T] is the end token, though both answers stand in that one.
To be comparable with the other objectives, only scored tokens are ever predicted: CE_p is the mean
over pairs whose x[t+1] is scored, CE_q over those of them whose x[j-1] is scored too. So each
prefix holds at least the prompt, and pairs grow with the square of the completion alone.

Inference pairs the prefix with the backward encoding of an end token alone, and reads p. Where a
document ends so, this is its pair (t, T). With `most_pairs`, for long texts, that many pairs are
drawn, evenly and with replacement, and for CE_p each prefix has that of an end token alone besides:
texts are cut, so that few end in one, and of all pairs these would be one in thousands.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextlat_bench import kernels
from nextlat_bench.data import TensorBatch
from nextlat_bench.decoder import Attended, Block, Decoder, RMSNorm, initialise, swiglu_width
from nextlat_bench.objectives._core import Losses, Objective, ahead_loss, stream_of
from nextlat_bench.run import DecoderConfig
from nextlat_bench.tasks._core import Task, check_count

__all__ = ["BST"]


class Beliefs(nn.Module):
    """The backward encoder, and the MLP that joins its states with the decoder's."""

    def __init__(self, config: DecoderConfig, end: int) -> None:
        super().__init__()
        self.end = end
        both = 2 * config.width
        inner = swiglu_width(both)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.gate_up = nn.Linear(both, 2 * inner, bias=False)
        self.down = nn.Linear(inner, both, bias=False)
        self.joint_norm = RMSNorm(both)
        initialise(self, config.zero_init_residual)

    def encode(self, embedded: Tensor, attended: Attended) -> Tensor:
        """(B, T, D) embeddings of suffixes, last token first -> (B, T, D) backward states."""
        for block in self.blocks:
            embedded = block(embedded, attended)
        return cast(Tensor, self.norm(embedded))

    def closing(self, decoder: Decoder) -> Tensor:
        """(1, D): the backward state of an end token alone."""
        end = torch.full((1, 1), self.end, device=decoder.embedding.weight.device)
        return self.encode(decoder.embedding(end), decoder.attended(1, 0, None, None))[0]

    def forward(self, f: Tensor, b: Tensor, t: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """States (N, D) and (M, D), and which (P,) of them are paired with which (P,) -> what the
        head reads for the next and for the previous token, each (P, D)."""
        # The first product is linear in z: taken of each state before they are paired, it costs
        # positions, not pairs. Embedding is indexing whose gradient is faster.
        of_f, of_b = self.gate_up.weight.chunk(2, dim=1)
        inner = F.embedding(t, F.linear(f, of_f)) + F.embedding(j, F.linear(b, of_b))
        z = torch.cat([F.embedding(t, f), F.embedding(j, b)], dim=-1)
        z = self.joint_norm(z + self.down(kernels.swiglu(inner)))
        p, q = z.chunk(2, dim=-1)
        return p, q


@dataclass(frozen=True, kw_only=True)
class BST(Objective):
    """Belief state transformer. The backward encoder is as deep as the decoder.

    most_pairs: the pairs that a micro-batch is paired to at most, beside those with an end token
        alone; None: all there are.
    """

    name: ClassVar[str] = "bst"

    most_pairs: int | None = None

    def __post_init__(self) -> None:
        check_count(self, "most_pairs", optional=True)

    def check_task(self, task: Task) -> None:
        if task.vocab.end is None:
            raise ValueError(
                f"bst needs sequences that close with an end token; {task.name}'s have none: "
                "choose another objective"
            )
        if task.parallel:
            raise ValueError(
                f"bst predicts next and previous tokens; {task.name} asks for a tag of each "
                "token: choose another objective"
            )

    def init(self, config: DecoderConfig, end: int | None = None) -> nn.Module:
        if end is None:
            raise ValueError("end = None: bst needs the token that closes the task's sequences")
        return Beliefs(config, end)

    def loss(self, decoder: Decoder, extra: nn.Module, batch: TensorBatch) -> Losses:
        beliefs = cast(Beliefs, extra)
        x, attended = decoder.trunk(*batch.inputs)
        hidden = decoder.norm(x)
        # Each document is turned round within its own place: masks and positions stay as they are.
        mirror, last = mirrored(batch)
        tokens = batch.tokens.flatten()[mirror].view_as(batch.tokens)
        backward = beliefs.encode(decoder.embedding(tokens), attended)
        f, b = hidden.flatten(0, 1), backward.flatten(0, 1).index_select(0, mirror)

        far = last[batch.scored] - batch.scored
        closes = batch.tokens.flatten()[last[batch.scored]] == beliefs.end
        prefixes = batch.scored[(far >= 2) | (far == 1) & closes]
        t, j = pairs(prefixes, last, self.most_pairs, stream_of(batch))
        drawn = len(t)
        if self.most_pairs is not None:
            alone = torch.full_like(batch.scored, len(b))
            b = torch.cat([b, beliefs.closing(decoder)])
            t, j = torch.cat([t, batch.scored]), torch.cat([j, alone])
        p, q = beliefs(f, b, t, j)
        row = torch.arange(len(t), device=t.device)
        next_token = ahead_loss(decoder, p, row, t, batch)
        # x[j-1] is the target of position j - 2, but for a document's first token, which has none.
        known = j[:drawn] - 2 >= (t - batch.position.flatten()[t])[:drawn]
        previous_token = ahead_loss(decoder, q, row[:drawn][known], j[:drawn][known] - 2, batch)
        parts = {"next_token": next_token.detach(), "previous_token": previous_token.detach()}
        return Losses((next_token + previous_token) / 2, parts, hidden.detach())

    def logits(self, decoder: Decoder, extra: nn.Module, hidden: Tensor, tokens: Tensor) -> Tensor:
        beliefs = cast(Beliefs, extra)
        f = hidden.reshape(-1, hidden.shape[-1])
        each = torch.arange(len(f), device=f.device)
        p, _ = beliefs(f, beliefs.closing(decoder), each, torch.zeros_like(each))
        return cast(Tensor, decoder.head(p)).view(*hidden.shape[:-1], -1)


def mirrored(batch: TensorBatch) -> tuple[Tensor, Tensor]:
    """For each flat position its mirror image within its document, and the document's last one.

    Padding stays where it is.
    """
    used = batch.document.flatten() >= 0
    here = torch.arange(len(used), device=used.device)
    first = here - batch.position.flatten()
    length = torch.bincount(first[used], minlength=len(used))  # by first position
    last = torch.where(used, first + length[first] - 1, here)
    return first + last - here, last


def pairs(
    prefixes: Tensor, last: Tensor, most: int | None, stream: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Flat positions (t, j): for each prefix that ends at t all suffixes from t + 2 on, and for the
    last but one of a document the last token alone. Of more than `most` pairs, as many drawn."""
    begin = torch.minimum(prefixes + 2, last[prefixes])
    count = last[prefixes] - begin + 1
    end = count.cumsum(0)  # of each prefix's pairs, among all pairs
    total = int(end[-1]) if len(end) else 0
    if most is None or total <= most:
        row = torch.arange(len(count), device=count.device).repeat_interleave(count)
        nth = torch.arange(total, device=count.device)
    else:
        nth = torch.randint(total, (most,), generator=stream, device=count.device).sort()[0]
        row = torch.searchsorted(end, nth, right=True)
    nth = nth - (end - count)[row]
    return prefixes[row], begin[row] + nth
