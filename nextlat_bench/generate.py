"""Batched generation from any subject, one token at a time; finished rows soon leave the batch.

Works on the `Session` of nextlat_bench.subject: a KV cache for a trained model, automaton states
for a model whose answer is known. What probes sample goes through here, but for detours, drafts and
what compression and distinction read in step.
"""

import numpy as np

from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks._core import BoolArray, FloatArray, IntArray, check_whole, is_number

__all__ = ["check_temperature", "choose", "generate", "worth_dropping"]


def choose(
    log_probs: FloatArray,
    rng: np.random.Generator | None,
    temperature: float = 1.0,
    min_probability: float = 0.0,
) -> IntArray:
    """(n, V) log-probabilities -> (n,) tokens: the likeliest without `rng`, else sampled.

    Sampling drops tokens with p <= `min_probability` (before the temperature; the likeliest token
    always stays) and renormalises the rest.
    """
    if rng is None:
        return np.asarray(log_probs.argmax(axis=1))
    check_temperature(temperature)
    keep = np.exp(log_probs) > min_probability
    keep[np.arange(len(keep)), log_probs.argmax(axis=1)] = True
    row, token = np.nonzero(keep)
    # Gumbel-max: exact; noise is drawn for the kept tokens alone
    scores = np.full(keep.shape, -np.inf)
    scores[row, token] = log_probs[row, token] / temperature + rng.gumbel(size=len(row))
    return np.asarray(scores.argmax(axis=1))


def check_temperature(temperature: float) -> None:
    if not is_number(temperature) or temperature == 0:
        expected = "expected a number above 0; the likeliest token is chosen without rng"
        raise ValueError(f"temperature = {temperature!r}: {expected}")


def _read_on(
    session: Session,
    max_new: int,
    end: int,
    pad: int,
    rng: np.random.Generator | None,
    temperature: float,
) -> IntArray:
    """Reads on from a session of n rows -> (n, max_new): tokens up to and with `end`, then pad."""
    n = len(session.log_probs)
    out = np.full((n, max_new), pad, dtype=np.int64)
    rows, going = np.arange(n), np.ones(n, dtype=bool)  # which output row each session row is
    for t in range(max_new):
        tokens = choose(session.log_probs, rng, temperature)
        out[rows[going], t] = tokens[going]
        going &= tokens != end
        if t + 1 == max_new or not going.any():
            break
        if worth_dropping(going):
            left = np.flatnonzero(going)
            session = session.select(left)
            rows, tokens, going = rows[left], tokens[left], going[left]
        session.advance(tokens)
    return out


def worth_dropping(going: BoolArray) -> bool:
    """Finished rows cost a step each, dropping them a copy of what all others have read."""
    return bool(going.mean() < 0.75)


def generate(
    subject: Subject,
    prompts: IntArray,
    max_new: int,
    *,
    end: int,
    pad: int,
    rng: np.random.Generator | None = None,
    temperature: float = 1.0,
    batch: int = 1024,
) -> IntArray:
    """(n, P) prompts -> (n, max_new) completions, greedy without `rng`; `batch` rows at a time."""
    check_whole("max_new", max_new, 0)
    check_whole("batch", batch, 1)
    parts = [
        _read_on(subject.start(prompts[i : i + batch]), max_new, end, pad, rng, temperature)
        for i in range(0, len(prompts), batch)
    ]
    return np.concatenate(parts) if parts else np.full((0, max_new), pad, dtype=np.int64)
