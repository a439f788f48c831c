"""A subject is a model as a probe sees it: a trained one, or one whose answer is known.

`Session` reads n sequences in step. `load` gives the subject of a finished run; those with known
answers are in nextlat_bench.known.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nextlat_bench.tasks._core import FloatArray, IntArray, Task

__all__ = ["LatentSubject", "RereadingSession", "Session", "Subject", "check_vocabulary", "load"]


class Session(ABC):
    """n sequences that a subject has read so far, all of the same length."""

    log_probs: FloatArray  # (n, V): of the next token of each, natural logarithm

    @abstractmethod
    def advance(self, tokens: IntArray) -> None:
        """Reads one more token of each sequence, (n,), and updates `log_probs`."""

    @abstractmethod
    def select(self, rows: IntArray) -> "Session":
        """A new session of these rows, in this order; a row may occur many times."""


class Subject(ABC):
    """What every probe may ask. Arrays are NumPy; n sequences a call."""

    name: str
    vocab_size: int

    @abstractmethod
    def start(self, prompts: IntArray) -> Session:
        """(n, P) prompts, P >= 1, all read: the session stands after their last token."""

    def log_probs(self, tokens: IntArray) -> FloatArray:
        """(n, T) -> (n, T, V): log-probabilities of the token after each prefix.

        Right padding is harmless. The result is large: ask for few rows at a time.
        """
        session = self.start(tokens[:, :1])
        out = np.empty((*tokens.shape, self.vocab_size), dtype=session.log_probs.dtype)
        out[:, 0] = session.log_probs
        for t in range(1, tokens.shape[1]):
            session.advance(tokens[:, t])
            out[:, t] = session.log_probs
        return out


class RereadingSession(Session):
    """The tokens read so far; every step reads them all again."""

    def __init__(
        self, subject: Subject, prefix: IntArray, log_probs: FloatArray | None = None
    ) -> None:
        self.subject, self.prefix = subject, prefix
        self.log_probs = subject.log_probs(prefix)[:, -1] if log_probs is None else log_probs

    def advance(self, tokens: IntArray) -> None:
        self.prefix = np.column_stack((self.prefix, tokens))
        self.log_probs = self.subject.log_probs(self.prefix)[:, -1]

    def select(self, rows: IntArray) -> "RereadingSession":
        return RereadingSession(self.subject, self.prefix[rows], self.log_probs[rows])


@runtime_checkable
class LatentSubject(Protocol):
    """A subject with hidden states; NextLat's also predicts the next one from the next token.

    One that cannot be asked for all that `hidden` explains says what it can be: `readings`.
    """

    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        """(n, T) -> (n, T, D): after the final norm; reading "embedding": each token's own vector,
        before any context; "trunk": MTP's."""

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray | None:
        """(n, D), (n,) -> (n, D): the next hidden states by the latent dynamics; None: none."""

    def read_out(self, hidden: FloatArray) -> FloatArray:
        """(n, D) -> (n, V): log-probabilities that the output head reads from hidden states."""


def check_vocabulary(subject: Subject, task: Task) -> None:
    """A ValueError if it says that it has other tokens: what it is asked would mean nothing."""
    its, size = getattr(subject, "vocab_size", None), len(task.vocab)
    if its not in (None, size):
        raise ValueError(f"{subject.name} has a vocabulary of {its}: {task.name} has {size}")


def load(path: str | Path) -> Subject:
    """The trained model of a run folder or an exported one. A damaged one is a ValueError."""
    from nextlat_bench.trained import load_trained  # torch only where a trained model is asked for

    return load_trained(Path(path))
