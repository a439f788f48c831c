"""Self-speculative decoding: a trained model drafts cheaply, and its own trunk verifies the drafts.

Leviathan et al. 2023 (arXiv 2211.17192), Chen et al. 2023 (arXiv 2302.01318); drafts by the model's
own parts as in NextLat (arXiv 2511.05963) and Gloeckle et al. 2024. A round, for each row:

    known       h[t], verified, and x[t+1], chosen from it: the token that is always accepted
    drafted     x[t+2] .. x[t+1+k]
    verified    the trunk reads x[t+1] .. x[t+1+k] in one pass; a <= k drafts are accepted
    chosen      x[t+2+a], from what the trunk says after the last accepted one

NextLat rolls its latent dynamics from h[t]; MTP and JTP ask their heads, at most `horizon` tokens.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from nextlat_bench.decoder import RaggedCache
from nextlat_bench.generate import check_temperature
from nextlat_bench.objectives.jtp import JTP
from nextlat_bench.objectives.mtp import MTP, Heads
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.tasks._core import IntArray, check_whole
from nextlat_bench.trained import TrainedModel

__all__ = ["Drafter", "Greedy", "Sampled", "Trace", "drafter_of", "speculate", "verify_rounds"]

LONGEST_DRAFT = 10


class Drafter(ABC):
    """A trunk that has read n rows, of any lengths, and what drafts from its hidden states."""

    longest = LONGEST_DRAFT  # tokens that it can draft

    def __init__(self, subject: TrainedModel) -> None:
        self.decoder, self.extra = subject.model.decoder, subject.model.extra
        self.objective, self.cache = subject.objective, RaggedCache()

    def read(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """(n, T), (n, T): further tokens, in one pass -> hidden states (n, T, D), and (n, T, ...)
        what drafting begins from at each of them."""
        self.cache.expect(position)
        hidden = self.decoder(tokens, position=position, cache=self.cache)
        return hidden, hidden

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """(..., D), (...) -> (..., V): the trunk's word on the next token."""
        logits: Tensor = self.objective.logits(self.decoder, self.extra, hidden, tokens)
        return logits

    @abstractmethod
    def begin(self, source: Tensor) -> None:
        """(n, ...): a draft begins from these."""

    @abstractmethod
    def after(self, tokens: Tensor) -> Tensor:
        """(n,): the next token of each row is this -> (n, V): logits of the one to be drafted."""

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        self.cache = cast(RaggedCache, self.cache.select(rows))


class Rolled(Drafter):
    """NextLat: g = p(g, x), from g = h[t]."""

    def begin(self, source: Tensor) -> None:
        self.g = source

    def after(self, tokens: Tensor) -> Tensor:
        self.g = NextLat.step(self.decoder, self.extra, self.g, tokens)
        return cast(Tensor, self.decoder.head(self.g))


class ByHeads(Drafter):
    """MTP: head i at t drafts x[t+1+i], whatever was drafted before it."""

    def __init__(self, subject: TrainedModel) -> None:
        super().__init__(subject)
        self.heads = cast(Heads, self.extra)
        self.longest = len(self.heads.blocks)

    def read(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Every head reads every token: its keys and values are cached after the trunk's."""
        last = self.decoder.config.layers - 1
        self.cache.expect(position)
        x, attended = self.decoder.trunk(tokens, position=position, cache=self.cache, layers=last)
        hidden = self.decoder.norm(self.decoder.blocks[last](x, attended, self.cache, last))
        sources = [
            norm(block(x, attended, self.cache, last + i))
            for i, (block, norm) in enumerate(
                zip(self.heads.blocks, self.heads.norms, strict=True), start=1
            )
        ]
        return hidden, torch.stack(sources, dim=2)  # (n, T, d, D)

    def begin(self, source: Tensor) -> None:
        self.waiting = list(source.unbind(1))

    def after(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.decoder.head(self.waiting.pop(0)))


class Planned(Drafter):
    """JTP: output k of the planning sequence that begins at t, k tokens read, drafts x[t+1+k]."""

    def __init__(self, subject: TrainedModel) -> None:
        super().__init__(subject)
        self.longest = cast(JTP, self.objective).horizon

    def read(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = super().read(tokens, position)
        return hidden, torch.stack([hidden, self.decoder.embedding(tokens)], dim=2)  # (n, T, 2, D)

    def begin(self, source: Tensor) -> None:
        self.h, self.plan = source[:, 0], source[:, 1:]

    def after(self, tokens: Tensor) -> Tensor:
        self.plan = torch.cat([self.plan, self.decoder.embedding(tokens)[:, None]], dim=1)
        return cast(Tensor, self.decoder.head(self.extra(self.plan, self.h)[:, -1]))


DRAFTERS: dict[type, type[Drafter]] = {NextLat: Rolled, MTP: ByHeads, JTP: Planned}


def drafter_of(subject: object) -> Drafter:
    """What drafts for a trained model; a ValueError where nothing does."""
    if isinstance(subject, TrainedModel):
        for kind, drafter in DRAFTERS.items():
            if isinstance(subject.objective, kind):
                return drafter(subject)
    name = getattr(subject, "name", type(subject).__name__)
    raise ValueError(f"{name} drafts nothing: only trained models of nextlat, mtp and jtp do")


class Greedy:
    """Drafts and chooses the likeliest token: the output is plain greedy decoding's."""

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(n, V) -> tokens (n,), and what `verify` needs of their distribution: here, nothing."""
        return logits.argmax(-1), logits[:, :0]

    def verify(
        self, logits: Tensor, drafts: Tensor, q: Tensor, drafted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The trunk's logits (n, k + 1, V), drafts (n, k) and what `draw` said of them (n, k, V),
        how many of them each row has (n,) -> how many are accepted, and the token after (n,)."""
        best = logits.argmax(-1)
        accepted = leading(best[:, :-1] == drafts, drafted)
        return accepted, best[torch.arange(len(best), device=best.device), accepted]


class Sampled:
    """Speculative sampling: the output's distribution is the model's at this temperature."""

    def __init__(self, rng: np.random.Generator, temperature: float, device: str) -> None:
        self.temperature = temperature
        self.generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        q = (logits / self.temperature).softmax(-1)
        return self.sample(q), q

    def sample(self, weights: Tensor) -> Tensor:
        return torch.multinomial(weights, 1, generator=self.generator).squeeze(1)

    def verify(
        self, logits: Tensor, drafts: Tensor, q: Tensor, drafted: Tensor
    ) -> tuple[Tensor, Tensor]:
        p = (logits / self.temperature).softmax(-1)  # (n, k + 1, V)
        if drafts.shape[1] == 0:
            return drafted, self.sample(p[:, 0])
        its = drafts[:, :, None]
        ratio = (p[:, :-1].gather(2, its) / q.gather(2, its)).squeeze(2)  # (n, k)
        accepted = leading(self.accepts(ratio), drafted)
        row = torch.arange(len(p), device=p.device)
        p = p[row, accepted]
        # nothing was drafted after the last one: there the rest of p - q is all of p
        rejected = (accepted < drafted)[:, None]
        q = q[row, accepted.clamp(max=q.shape[1] - 1)]
        return accepted, self.sample(self.rest(p, q * rejected))

    def accepts(self, ratio: Tensor) -> Tensor:
        """p/q of each draft -> is it accepted? With probability min(1, p/q)."""
        drawn = torch.rand(ratio.shape, generator=self.generator, device=ratio.device)
        return drawn < ratio

    def rest(self, p: Tensor, q: Tensor) -> Tensor:
        """(n, V), (n, V) -> what is drawn from after a rejection, not yet normalised."""
        rest = (p - q).clamp(min=0)
        return torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)  # p = q but for rounding


def leading(right: Tensor, drafted: Tensor) -> Tensor:
    """(n, k), (n,) -> (n,): how many of the first `drafted` are right before one is not."""
    counted = torch.arange(right.shape[1], device=right.device) < drafted[:, None]
    return (right & counted).long().cumprod(1).sum(1)


@dataclass(frozen=True)
class Trace:
    """What each round of each row drafted and accepted; -1 after the row's last round."""

    drafted: IntArray  # (n, max_new - 1): there are never more rounds
    accepted: IntArray  # (n, max_new - 1)

    @property
    def passes(self) -> IntArray:
        """(n,): the trunk's passes over each row, the prompt's included."""
        return np.asarray(1 + (self.drafted >= 0).sum(axis=1))


def speculate(
    subject: TrainedModel,
    prompts: IntArray,
    max_new: int,
    *,
    end: int,
    pad: int,
    rng: np.random.Generator | None = None,
    temperature: float = 1.0,
    draft: int = 5,
    threshold: float = 0.0,
    batch: int = 1024,
) -> tuple[IntArray, Trace]:
    """(n, P) prompts -> (n, max_new) completions, greedy without `rng`, and how they came about.

    A draft has `draft` tokens, fewer where the objective's horizon, `end` or max_new ends it; the
    first one that had a probability under `threshold` is its last. (It is verified all the same:
    to drop a token for what it is would change the distribution.)
    """
    check_whole("draft", draft, 1, LONGEST_DRAFT)
    check_whole("max_new", max_new, 1)
    check_whole("batch", batch, 1)
    check_temperature(temperature)
    drafter_of(subject)  # refused before anything is read
    choice = Greedy() if rng is None else Sampled(rng, temperature, subject.device)
    none: IntArray = np.empty((0, max_new - 1), dtype=np.int64)
    nothing: IntArray = np.empty((0, max_new), dtype=np.int64)
    parts = [(nothing, Trace(none, none))]
    for i in range(0, len(prompts), batch):
        ids = subject.to_ids(prompts[i : i + batch])
        how = choice, draft, threshold
        parts.append(verify_rounds(drafter_of(subject), ids, max_new, end, pad, *how))
    outs, traces = zip(*parts, strict=True)
    drafted = np.concatenate([trace.drafted for trace in traces])
    accepted = np.concatenate([trace.accepted for trace in traces])
    return np.concatenate(outs), Trace(drafted, accepted)


@torch.inference_mode()
def verify_rounds(
    drafter: Drafter,
    prompts: Tensor,
    max_new: int,
    end: int,
    pad: int,
    choice: Greedy | Sampled,
    draft: int,
    threshold: float = 0.0,
) -> tuple[IntArray, Trace]:
    """`speculate` for one batch of (n, P) prompts."""
    n, P = prompts.shape
    position = torch.arange(P, device=prompts.device).expand(n, P)
    hidden, sources = drafter.read(prompts, position)
    token, _ = choice.draw(drafter.logits(hidden[:, -1], prompts[:, -1]))
    source, rows = sources[:, -1], torch.arange(n, device=prompts.device)
    out = prompts.new_full((n, max_new), pad)
    out[:, 0] = token
    count = torch.ones_like(token)  # tokens that are out; all but the last are read
    trace = prompts.new_full((2, n, max_new - 1), -1)
    ended = token == end
    for turn in range(max_new - 1):
        going = (~ended & (count < max_new)).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(rows):
            drafter.select(going)
            rows, token, source, count = (x[going] for x in (rows, token, source, count))
        room = max_new - count - 1  # a token follows the last draft
        tokens, q, drafted = drafts(drafter, source, token, choice, room, draft, threshold, end)
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        # a row that drafted less reads its last token again, at the same position: to no effect
        steps_read = torch.minimum(steps, drafted[:, None])
        tokens = tokens.gather(1, steps_read)
        hidden, sources = drafter.read(tokens, P + count[:, None] - 1 + steps_read)
        logits = drafter.logits(hidden, tokens)
        accepted, token = choice.verify(logits, tokens[:, 1:], q, drafted)

        here = torch.arange(len(rows), device=tokens.device)
        source = sources[here, accepted]
        closed = (accepted > 0) & (tokens[here, accepted] == end)  # by an accepted draft
        new = torch.cat([tokens[:, 1:], token[:, None]], dim=1)  # (m, k + 1)
        new[here, accepted] = torch.where(closed, pad, token)
        kept = steps < (accepted + ~closed)[:, None]
        out[rows[:, None].expand_as(new)[kept], (count[:, None] + steps)[kept]] = new[kept]
        count = count + accepted + ~closed
        ended = closed | (token == end)
        trace[0, rows, turn], trace[1, rows, turn] = drafted, accepted
    return out.cpu().numpy(), Trace(*trace.cpu().numpy())


def drafts(
    drafter: Drafter,
    source: Tensor,
    token: Tensor,
    choice: Greedy | Sampled,
    room: Tensor,
    draft: int,
    threshold: float,
    end: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The token that is known and k drafts (n, k + 1), their distributions (n, k, V), and how many
    of them each row has (n,)."""
    drafter.begin(source)
    tokens, distributions, drafted = [token], [], torch.zeros_like(token)
    open_ = room > 0
    for _ in range(min(draft, drafter.longest)):
        if not bool(open_.any()):
            break
        logits = drafter.after(tokens[-1])
        token, q = choice.draw(logits)
        tokens.append(token)
        distributions.append(q)
        drafted = drafted + open_
        open_ = open_ & (token != end) & (drafted < room)
        if threshold:
            confidence = logits.softmax(-1).gather(1, token[:, None]).squeeze(1)
            open_ = open_ & (confidence >= threshold)
    stacked = torch.stack(distributions, 1) if distributions else token.new_empty(len(token), 0, 0)
    return torch.stack(tokens, dim=1), stacked, drafted
