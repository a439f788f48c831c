"""A5 word problem: the running product of a word over a finite group.

Merrill, Petty and Sabharwal 2024 (arXiv 2404.08819); NextLat, section 5.2 and Appendix F.5. At
each position of a word g1 g2 ... the answer is the element g1 * g2 * ... * gt: a tag at the same
position, no shift and no end token. Products are read from left to right: first g1, then g2.

    tokens   (13)  (123)  (123)  (23)          uniform over the group
    targets  (13)  (23)   (12)   (132)         their running product

A5 is not solvable: its word problem is NC1-complete (Barrington 1989), so that no fixed number of
layers suffices for every length, unless TC0 = NC1. S3, S4, A4, A4 x Z5 and the cyclic Z60 are
solvable controls, S5 is another unsolvable one.

>>> task = A5(group="S3", length=4)
>>> batch = task.sample(split="train", start=0, n=2)
>>> print(task.text(batch.tokens[0]))
(13) * (123) * (123) * (23) = (132)
>>> print(*[task.vocab.tokens[target] for target in batch.targets[0]])
(13) (23) (12) (132)
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from nextlat_bench.tasks._core import (
    LONGEST,
    SPLITS,
    Batch,
    BoolArray,
    IntArray,
    Split,
    Vocabulary,
    block_rng,
    check_count,
    check_field,
    check_option,
    check_range,
    check_tokens,
    is_int,
)
from nextlat_bench.tasks._draws import BLOCK, DrawnTask, fill, row_hash, split_by_hash
from nextlat_bench.tasks._groups import GROUPS, element_names, multiplication_table

__all__ = ["A5"]


@dataclass(frozen=True, kw_only=True)
class A5(DrawnTask):
    """Words over a finite group and their running products. An invalid field is a ValueError.

    group: A5, S5, S4, A4, S3, Z60 or A4xZ5.
    length: elements of a word, in training.
    test_length: elements of the longest word that a probe reads.
    num_train: size of a fixed training set; None: fresh words for ever.
    growth: over this many first training rows words grow, an element at a time, from 2 to `length`;
        until then a row of `length` elements holds several, each a document.
    heldout: share of the words in the validation and again in the test split, by a hash of their
        first `length` elements: no held-out word, however long, begins with a training word of so
        many. The shorter ones of `growth`, of which there are too few, are not held apart.
    """

    name: ClassVar[str] = "a5"

    group: str = "A5"
    length: int = 12
    test_length: int = 36
    num_train: int | None = None
    growth: int = 0
    heldout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_option(self, "group", GROUPS)
        check_count(self, "length", most=LONGEST)
        check_count(self, "test_length", most=LONGEST)
        check_count(self, "growth", 0)
        check_count(self, "seed", 0)
        fits = self.test_length >= self.length
        check_field(self, "test_length", fits, f"at least length = {self.length}")
        self.check_splits()

    @cached_property
    def table(self) -> IntArray:
        """(order, order): the product of two elements."""
        return multiplication_table(self.group)

    @cached_property
    def vocab(self) -> Vocabulary:
        """The elements alone, in cycle notation; the identity is number 0."""
        return Vocabulary(element_names(self.group), pad=-1)

    @property
    def max_length(self) -> int:
        return self.length

    @property
    def max_new_tokens(self) -> int:
        return 0

    @property
    def longest(self) -> int:
        return self.test_length

    @property
    def parallel(self) -> bool:
        return True

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Words start..start+n of a split and their running products. Random access."""
        start, n = check_range(split, start, n)
        tokens = self.drawn(split, start, n)[:, : self.length]
        if split != "train" or start >= self.growth:
            return self._batch(tokens)
        row, place = np.arange(start, start + n), np.arange(self.length, dtype=np.int32)
        grown = 2 + row * max(0, self.length - 2) // self.growth
        # (n, 1): how long a row's words are
        word = np.minimum(grown, self.length).astype(np.int32)[:, None]
        document, position = np.divmod(place, word)
        return Batch(tokens, self._products(tokens, position == 0), document, position)

    def of_length(self, split: Split, start: int, n: int, length: int) -> Batch:
        """The first `length` elements of held-out words; they have `test_length`."""
        most = self.length if split == "train" else self.test_length
        if not is_int(length) or not 1 <= length <= most:
            raise ValueError(f"length = {length!r}: {split} words have 1 to {most} elements")
        return self._batch(self.drawn(split, start, n)[:, :length])

    def _batch(self, tokens: IntArray) -> Batch:
        return Batch.of_sequences(tokens, self.answers(tokens), self.vocab.pad)

    def answers(self, tokens: IntArray) -> IntArray:
        """(n, L) -> (n, L): the running products."""
        tokens, most = np.asarray(tokens), len(self.vocab) - 1
        if tokens.ndim != 2:
            raise ValueError(f"words of shape {tokens.shape}: expected (n, L)")
        check_tokens("words", tokens)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() <= most:
            raise ValueError(
                f"words of tokens {tokens.min()} to {tokens.max()}: expected elements, 0 to {most}"
            )
        return self._products(tokens, np.zeros(np.shape(tokens), np.bool_))

    def _products(self, tokens: IntArray, begins: BoolArray) -> IntArray:
        """(n, L), (n, L) -> (n, L): the products that run on until another word begins."""
        out = np.empty_like(tokens)
        product = np.zeros(len(tokens), np.int64)  # the identity
        for t, element in enumerate(np.asarray(tokens).T):
            out[:, t] = product = self.table[np.where(begins[:, t], 0, product), element]
        return out

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(n, length) words."""
        return self.sample(split, start, n).tokens

    def text(self, tokens: IntArray) -> str:
        """The word, and its product after `=`."""
        if not self.vocab.used(tokens):
            return ""
        product = self.vocab.tokens[self.answers(np.asarray(tokens)[None])[0, -1]]
        return f"{' * '.join(self.vocab.decode(tokens))} = {product}"

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """Every running product right."""
        if np.shape(completions) != np.shape(prompts):
            raise ValueError(
                f"answers of shape {np.shape(completions)} to words of shape {np.shape(prompts)}: "
                "expected a product for each element"
            )
        check_tokens("answers", completions)
        return np.asarray((self.answers(prompts) == completions).all(axis=1))

    def draw(self, split: Split, block: int) -> tuple[IntArray, float]:
        rng = block_rng(self.seed, split, block)
        length = self.length if split == "train" else self.test_length
        own = SPLITS.index(split)

        def candidates(n: int) -> tuple[IntArray]:
            words = rng.integers(len(self.vocab), size=(n, length), dtype=np.int32)
            of = split_by_hash(row_hash(words[:, : self.length]), self.seed, self.heldout)
            return (words[of == own],)

        (words,), rejected = fill(
            BLOCK,
            self.share_of(split),
            candidates,
            f"no {split} word of length {self.length} over {self.group}: too few words for "
            f"heldout = {self.heldout}",
        )
        return words, rejected
