"""The contract of a task: a deterministic generator, an exact checker and, mostly, a world.

NumPy alone. Every array method works on n examples or n states at once.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

__all__ = [
    "SPLITS",
    "Batch",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Split",
    "Task",
    "Vocabulary",
    "World",
    "block_rng",
    "check_count",
    "check_each",
    "check_field",
    "check_heldout",
    "check_length",
    "check_number",
    "check_option",
    "check_pairs",
    "check_range",
    "check_share",
    "check_tokens",
    "check_whole",
    "is_int",
    "is_number",
]

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
MOST = 2**32 - 1  # of anything counted
MOST_EXAMPLES = 10**7  # asked for at once, or kept as a training set: gigabytes beyond it
LONGEST = 100_000  # tokens of a sequence, nodes of a graph
LEAST_HELDOUT = 0.001  # of the examples; what is rarer takes too long to draw
SHOWN = 80  # characters of a wrong value


@dataclass(frozen=True)
class Vocabulary:
    """Token id <-> readable token. `pad` fills (-1: nothing ever does), `end` closes a sequence
    (None: no such token)."""

    tokens: tuple[str, ...]
    pad: int
    end: int | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def used(self, ids: IntArray) -> list[int]:
        """One sequence, (L,), without its padding; a ValueError that names an unknown token."""
        if np.ndim(ids) != 1:
            raise ValueError(f"tokens of shape {np.shape(ids)}: expected one sequence, (L,)")
        if len(ids):
            check_tokens("tokens", ids)
        used = [i for i in np.asarray(ids).tolist() if i != self.pad]
        if used and not 0 <= min(used) <= max(used) < len(self):
            unknown = next(i for i in used if not 0 <= i < len(self))
            raise ValueError(f"token {unknown}: expected 0 to {len(self) - 1}")
        return used

    def decode(self, ids: IntArray) -> list[str]:
        """Readable tokens of one sequence, without padding."""
        return [self.tokens[i] for i in self.used(ids)]

    def encode(self, tokens: list[str]) -> IntArray:
        """(L,) ids of readable tokens; a ValueError that names the first one that is unknown."""
        unknown = [token for token in tokens if token not in self.ids]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a token of this task")
        return np.array([self.ids[token] for token in tokens], dtype=np.int32)


@dataclass(frozen=True)
class Batch:
    """n sequences of L positions. `targets[i, t]` is the answer read off position t, -1 unscored;
    `document` tells packed documents apart (-1: padding); `position` restarts in each document."""

    tokens: IntArray  # (n, L)
    targets: IntArray  # (n, L)
    document: IntArray  # (n, L)
    position: IntArray  # (n, L)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of_sequences(cls, tokens: IntArray, targets: IntArray, pad: int) -> "Batch":
        """One document a row, right-padded."""
        used = tokens != pad
        document = np.where(used, 0, -1).astype(np.int32)
        position = np.where(used, np.arange(tokens.shape[1]), 0).astype(np.int32)
        return cls(tokens, targets, document, position)

    @property
    def lengths(self) -> IntArray:  # (n,)
        return np.asarray((self.document >= 0).sum(axis=1))


class World(ABC):
    """The automaton behind a task. States are an opaque, indexable NumPy array of n states."""

    vocab: Vocabulary

    @abstractmethod
    def start(self, prompts: IntArray) -> IntArray:
        """(n, P) prompts -> the n states they describe. A malformed prompt is a ValueError."""

    @abstractmethod
    def legal(self, states: IntArray) -> BoolArray:
        """(n,) states -> (n, V): the tokens allowed next; none in the dead and the end state."""

    @abstractmethod
    def advance(self, states: IntArray, tokens: IntArray) -> IntArray:
        """(n,), (n,) -> (n,): an illegal token leads to the dead state, never to an exception."""

    @abstractmethod
    def at_goal(self, states: IntArray) -> BoolArray:
        """(n,): is this the end state, where a right sequence stops?"""

    @abstractmethod
    def histories(self, states: IntArray, length: int, rng: np.random.Generator) -> IntArray:
        """(n,) states -> (n, P + length): prompts and `length` tokens that lead to each state.

        A row without any such history is all padding.
        """

    @abstractmethod
    def distance(self, states: IntArray) -> IntArray:
        """(n,): fewest tokens to the end state (0 there), -1 where it cannot be reached."""

    def depth(self, states: IntArray) -> IntArray | None:
        """(n,): how many tokens after a prompt every history of a state has, where a state says so,
        as the stones on a board do. None: states have histories of many lengths."""
        return None


class Task(ABC):
    """A frozen, keyword-only dataclass: its fields are its parameters, validated when made."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def vocab(self) -> Vocabulary: ...

    @property
    @abstractmethod
    def max_length(self) -> int:
        """The longest sequence, in tokens."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """How many tokens a subject may generate after a prompt when it is probed."""

    @abstractmethod
    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Examples start..start+n of a split: deterministic, random access, vectorised."""

    @abstractmethod
    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(<= n, P) prompts to be completed: fewer only where the split holds fewer."""

    @abstractmethod
    def text(self, tokens: IntArray) -> str:
        """One sequence, readable."""

    @abstractmethod
    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """(n, P), (n, C) -> (n,): which completions are right answers, exactly."""

    def world(self) -> World | None:
        """The world behind the task; None where there is none."""
        return None

    @property
    def longest(self) -> int:
        """The longest sequence that a subject is ever asked to read, in tokens."""
        return self.max_length + self.max_new_tokens

    @property
    def parallel(self) -> bool:
        """Are the answers read off all positions at once, and none of them fed back (A5's tags)?

        `prompts` are then whole sequences, and a completion holds the answers in order.
        """
        return False

    def answers(self, tokens: IntArray) -> IntArray | None:
        """(n, L) sequences -> (n, L) the right answer at each position, -1 where there is none.

        Only a parallel task has them: elsewhere the tokens themselves are the answers.
        """
        return None

    def of_length(self, split: Split, start: int, n: int, length: int) -> Batch | None:
        """As `sample`, but `length` tokens long; None where the length is not free."""
        return None

    def scores(self, prompts: IntArray, completions: IntArray) -> dict[str, FloatArray]:
        """Named shares, (n,) each, of what is right in completions; "answer" is `check`'s."""
        return {"answer": np.asarray(self.check(prompts, completions), dtype=np.float64)}

    def kinds(self, prompts: IntArray) -> npt.NDArray[np.str_]:
        """(n, P) -> (n,): the named part of the split that each prompt is of; "" if undivided."""
        return np.full(len(prompts), "")

    def clusters(self, prompts: IntArray) -> IntArray:
        """(n, P) -> (n,): trials with the same number stand or fall together, and an interval over
        trials takes them as one; each alone by default."""
        return np.arange(len(prompts))

    @property
    def at_hand(self) -> bool:
        """Can it be sampled here? A run can be counted without, its rows taken for full."""
        return True

    def lighter(self) -> "Task":
        """Examples as long as its own that are sooner made: what a run takes is counted on them."""
        return self

    def token_bytes(self) -> IntArray | None:
        """(V,): how many bytes of text each token stands for; None where tokens are no text."""
        return None

    def forgotten(self, name: str) -> dict[str, Any]:
        """What other fields become when this one is given another value: those it decides."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """The fields as JSON values, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


# ---- checks of fields and arguments; whatever is wrong is a ValueError that says what


def check_field(owner: object, name: str, valid: bool, expected: str) -> None:
    """Raises a ValueError that names the field, its value and what was expected."""
    if not valid:
        value = " ".join(repr(getattr(owner, name)).split())
        shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
        raise ValueError(f"{type(owner).__name__}.{name} = {shown}: expected {expected}")


def check_count(
    owner: object, name: str, least: int = 1, most: int = MOST, *, optional: bool = False
) -> None:
    """The field must be a whole number from least to most, or None if optional; NumPy's become
    Python's."""
    value = getattr(owner, name)
    if value is None and optional:
        return
    largest = "2**32 - 1" if most == MOST else most
    expected = f"a whole number from {least} to {largest}" + ", or None" * optional
    check_field(owner, name, is_int(value) and least <= value <= most, expected)
    object.__setattr__(owner, name, int(value))


def check_number(owner: object, name: str, most: float = math.inf) -> None:
    """The field must be a finite number from 0 to most; it becomes a float, so that 1 and 1.0 are
    one run."""
    expected = "a finite number, 0 or more" if most == math.inf else f"a number from 0 to {most:g}"
    check_field(owner, name, is_number(getattr(owner, name), most), expected)
    object.__setattr__(owner, name, float(getattr(owner, name)))


def check_share(owner: object, name: str) -> None:
    """The field must be a number above 0 and below 1."""
    value = getattr(owner, name)
    check_field(owner, name, is_number(value) and 0 < value < 1, "a share above 0 and below 1")
    object.__setattr__(owner, name, float(value))


def check_heldout(owner: Any) -> None:
    """The field `heldout`, the share of validation and again of test, must leave all three some."""
    valid = is_number(owner.heldout) and LEAST_HELDOUT <= owner.heldout < 0.5
    check_field(owner, "heldout", valid, f"a share from {LEAST_HELDOUT} to below 0.5")
    object.__setattr__(owner, "heldout", float(owner.heldout))


def check_option(owner: object, name: str, options: Iterable[str]) -> None:
    """The field must be one of some strings."""
    value, options = getattr(owner, name), tuple(options)
    valid = isinstance(value, str) and value in options
    check_field(owner, name, valid, f"one of {', '.join(options)}")


def check_each(owner: object, name: str, valid: Callable[[Any], bool], expected: str) -> None:
    """The field must be a tuple, or a list as in JSON, a range or an array, whose items are all
    valid; NumPy's become Python's."""
    value = getattr(owner, name)
    listed = isinstance(value, list | tuple | range | np.ndarray)
    items = [i.item() if isinstance(i, np.generic) else i for i in value] if listed else []
    check_field(owner, name, listed and all(valid(item) for item in items), expected)
    object.__setattr__(owner, name, tuple(items))


def is_int(value: object) -> bool:
    """A whole number of Python's or NumPy's; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object, most: float = math.inf) -> bool:
    """A finite number from 0 to most, of Python's or NumPy's; an integer beyond all floats is
    none."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    is_real = is_real and not isinstance(value, bool)
    return is_real and 0 <= value <= min(most, sys.float_info.max)  # type: ignore[operator]


def check_pairs(prompts: IntArray, completions: IntArray) -> None:
    """Raises a ValueError unless there is a row of completions to each of prompts."""
    shapes = np.shape(prompts), np.shape(completions)
    if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][0]:
        raise ValueError(
            f"prompts of shape {shapes[0]}, completions of shape {shapes[1]}: expected (n, P) and "
            "(n, C)"
        )
    for name, tokens in (("prompts", prompts), ("completions", completions)):
        check_tokens(name, tokens)


def check_tokens(name: str, tokens: IntArray) -> None:
    """Raises a ValueError unless they are whole numbers: 83.4 is no token."""
    kind = np.asarray(tokens).dtype
    if kind.kind not in "iu":
        raise ValueError(f"{name} of type {kind}: expected integers")


def check_whole(name: str, value: int, least: int, most: int = LONGEST) -> None:
    """Raises a ValueError unless it is a whole number from least to most."""
    if not is_int(value) or not least <= value <= most:
        raise ValueError(f"{name} = {value!r}: expected a whole number from {least} to {most}")


def check_length(length: int) -> None:
    """Raises a ValueError unless so many tokens may follow a prompt in `World.histories`."""
    if not is_int(length) or length < 0:
        raise ValueError(f"length = {length!r}: expected an integer >= 0")


def check_split(split: Split) -> None:
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: expected one of {', '.join(SPLITS)}")


def check_range(split: Split, start: int, n: int) -> tuple[int, int]:
    """`start` and `n` as Python's own, which never overflow; a ValueError unless start..start+n
    can be examples of a split."""
    check_split(split)
    check_whole("start", start, 0, 2**53)
    check_whole("n", n, 0, MOST_EXAMPLES)
    return int(start), int(n)


def block_rng(seed: int, split: Split, block: int) -> np.random.Generator:
    """The generator of one block of one split: random access, no stream shared, no seed + i."""
    check_split(split)
    return np.random.default_rng([seed, SPLITS.index(split), block])
