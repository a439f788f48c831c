"""Subjects with known answers for parallel tasks, whose answers are read off all positions at once.

`known_tagger` gives them by name. Some answer from the last tokens alone, which takes words of free
length (the A5 word problem); where there are such words, the oracle has latent dynamics too.
"""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from nextlat_bench.registry import check_name
from nextlat_bench.subject import RereadingSession, Subject
from nextlat_bench.tasks._core import FloatArray, IntArray, Task, is_int

__all__ = [
    "Counting",
    "Drifting",
    "Oracle",
    "RunningOracle",
    "Tagger",
    "Uniform",
    "Window",
    "known_tagger",
]


class Tagger(Subject):
    """A subject that is certain of one answer at each position, right or wrong, or of none."""

    name: str

    def __init__(self, task: Task) -> None:
        if not task.parallel:
            raise ValueError(f"the answers of the task {task.name} are not read in parallel")
        self.task, self.vocab_size = task, len(task.vocab)

    @abstractmethod
    def tags(self, tokens: IntArray) -> IntArray:
        """(n, T) -> (n, T): its answer at each position; -1: uniform over the vocabulary."""

    def answers(self, tokens: IntArray) -> IntArray:
        """(n, T) -> (n, T): the task's own answers, -1 where there is none."""
        answers = self.task.answers(tokens)
        assert answers is not None  # the task is parallel
        return answers

    def log_probs(self, tokens: IntArray) -> FloatArray:
        return certain(self.tags(tokens), self.vocab_size)

    def start(self, prompts: IntArray) -> "RereadingSession":
        return RereadingSession(self, prompts)


class Oracle(Tagger):
    """Always right."""

    name = "oracle"

    def tags(self, tokens: IntArray) -> IntArray:
        return self.answers(tokens)


class Uniform(Tagger):
    """Uniform over the vocabulary."""

    name = "uniform"

    def tags(self, tokens: IntArray) -> IntArray:
        return np.full(tokens.shape, -1)


class Window(Tagger):
    """Answers as if a word began `width` tokens ago: exact up to that length and, over a group, at
    chance beyond. By default that is the training length: a transformer that does not generalise.
    """

    name = "window"

    def __init__(self, task: Task, width: int | None = None) -> None:
        super().__init__(task)
        require_free_length(task)
        self.width = task.max_length if width is None else width
        if not is_int(self.width) or self.width < 1:
            raise ValueError(f"width = {self.width!r}: expected a positive integer")

    def tags(self, tokens: IntArray) -> IntArray:
        width = min(self.width, tokens.shape[1])
        first = self.answers(tokens[:, :width])
        windows = np.lib.stride_tricks.sliding_window_view(tokens, width, axis=1)[:, 1:]
        later = self.answers(windows.reshape(-1, width))[:, -1]
        return np.concatenate((first, later.reshape(windows.shape[:2])), axis=1)


class Forgetful(Window):
    """Sees the last two tokens only."""

    name = "forgetful"

    def __init__(self, task: Task) -> None:
        super().__init__(task, width=2)


class RunningOracle(Oracle):
    """The oracle of words whose answer so far, put in place of what was read, gives every later
    answer: running products. That answer, one-hot, is its hidden state and a belief state."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        require_free_length(task)

    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        """(n, T) -> (n, T, V): one-hot of the answers; reading "embedding": of the tokens."""
        if reading not in ("hidden", "embedding"):
            raise ValueError(f"reading = {reading!r}: expected hidden or embedding")
        shown = tokens if reading == "embedding" else self.answers(tokens)
        return np.eye(self.vocab_size)[shown]

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray:
        """(n, V), (n,) -> (n, V): one-hot of the answers one token later."""
        words = np.column_stack((hidden.argmax(axis=1), tokens))
        return np.eye(self.vocab_size)[self.answers(words)[:, 1]]

    def read_out(self, hidden: FloatArray) -> FloatArray:
        """(n, V) -> (n, V): all mass on the answer that a hidden state stands for."""
        return certain(hidden.argmax(axis=1), self.vocab_size)


class Drifting(RunningOracle):
    """A trunk that is always right, and latent dynamics that are deaf to one token, the last of the
    vocabulary: each step goes wrong with probability 1 / V, and errors compound."""

    name = "drifting"

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray:
        deaf = tokens == self.vocab_size - 1
        return np.where(deaf[:, None], hidden, super().predict_hidden(hidden, tokens))


class Counting(RunningOracle):
    """Right only while its hidden states' last number, which counts the tokens read, is one that
    there was in training. Beyond, trunk and dynamics are certain of the first answer, although the
    rest of the state goes on being right."""

    name = "counting"
    unit = 1 / 8  # what a token adds; a power of two, so that sums are exact

    def tags(self, tokens: IntArray) -> IntArray:
        taught = np.arange(1, tokens.shape[1] + 1) <= self.task.max_length
        return np.where(taught, self.answers(tokens), 0)

    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        """(n, T) -> (n, T, V + 1): the oracle's, and the count; reading "embedding": the oracle's,
        (n, T, V)."""
        rest = super().hidden(tokens, reading)
        if reading == "embedding":
            return rest
        count = self.unit * np.arange(1, tokens.shape[1] + 1)
        return np.dstack((rest, np.broadcast_to(count, tokens.shape)))

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray:
        """(n, V + 1), (n,) -> (n, V + 1)"""
        rest = super().predict_hidden(hidden[:, :-1], tokens)
        return np.column_stack((rest, hidden[:, -1] + self.unit))

    def read_out(self, hidden: FloatArray) -> FloatArray:
        """(n, V + 1) -> (n, V)"""
        taught = hidden[:, -1] <= self.unit * self.task.max_length
        return certain(np.where(taught, hidden[:, :-1].argmax(axis=1), 0), self.vocab_size)


def certain(answers: IntArray, vocab_size: int) -> FloatArray:
    """(...,) -> (..., V): log-probabilities, all mass on each answer; -1: uniform."""
    out = np.full((*answers.shape, vocab_size), -np.inf)
    np.put_along_axis(out, np.maximum(answers, 0)[..., None], 0.0, axis=-1)
    out[answers < 0] = -np.log(vocab_size)
    return out


def has_free_length(task: Task) -> bool:
    return task.of_length("test", 0, 0, task.max_length) is not None


def require_free_length(task: Task) -> None:
    if not has_free_length(task):
        raise ValueError(f"the sequences of the task {task.name} have one length")


ANY: dict[str, Callable[[Task], Tagger]] = {"oracle": Oracle, "uniform": Uniform}
OF_WORDS: dict[str, Callable[[Task], Tagger]] = {
    "oracle": RunningOracle,
    "uniform": Uniform,
    "forgetful": Forgetful,
    "window": Window,
    "drifting": Drifting,
    "counting": Counting,
}


def known_tagger(name: str, task: Task) -> Tagger:
    """A subject with known answers of a parallel task. An unknown name is a ValueError that says
    which there are: more of them where words have any length."""
    known = OF_WORDS if has_free_length(task) else ANY
    return known[check_name("subject", name, list(known))](task)
