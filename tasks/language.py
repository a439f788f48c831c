"""Language: the next token of real text, the standard library of the running Python by default.

Source: the language modelling of arXiv 2511.05963, section 5 and Table 2 (there FineWeb-Edu). Each
document becomes byte-level BPE tokens (Sennrich et al. 2016; trained on the training split alone)
and is read in pieces that begin with a token of the domain; the last piece ends with `<end>`:

    tokens   <code>  import  \\x20os   def  ...   <code>  return  ...   <end>  <prose>  The  ...
    targets  import  \\x20os   def      ...   return  ...             <end>  -      The      ...

Every token of a document is a target exactly once. Training rows are full but for a few positions
(LEAST_ROOM): documents are cut where a row ends, and packed ones neither see each other nor share
positions. Held-out rows hold one piece each, so that they can be read by themselves.

>>> task = Language(max_bytes=400_000, vocab_size=512, length=32, heldout=0.2)
>>> task.text(task.sample("test", 0, 1).tokens[0]).startswith("<")
True
"""

import hashlib
import json
import os
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nextlat_bench.tasks._cache import cached_arrays
from nextlat_bench.tasks._core import (
    LONGEST,
    SPLITS,
    Batch,
    BoolArray,
    IntArray,
    Split,
    Task,
    Vocabulary,
    check_count,
    check_field,
    check_heldout,
    check_option,
    check_pairs,
    check_range,
)
from nextlat_bench.tasks._draws import epochs, row_hash
from nextlat_bench.tasks._text import (
    HUGGING_FACE,
    PYTHON,
    domains_of,
    load_units,
    split_units,
    text_digest,
)

__all__ = ["Language"]

CACHE_FORMAT = 2
LEAST_ROOM = 8  # positions at the end of a row that are worth a piece of a longer document
LARGEST_VOCABULARY = 2**18
LIGHT_BYTES = 1_000_000
DOMAINS = ("both", "code", "prose")


@dataclass(frozen=True, kw_only=True)
class Language(Task):
    """Real text in rows of `length` tokens. An invalid field is a ValueError.

    source: "python", the standard library's source files (domain `code`), and its documentation,
        the topics of `help` and module docstrings (domain `prose`); a text file or a folder of
        them; "hf:NAME" or "hf:NAME@REVISION", a Hugging Face dataset, of which `max_bytes` is read.
    domain: "both", or of Python's text one of the two.
    vocab_size: tokens in all, special ones included.
    length: tokens of a row.
    max_bytes: how much of the text is used, in whole files, in the order of their hashes.
    heldout: share of each domain in the validation and again in the test split, in whole files, by
        hash. Files that share thirteen words in a row, or that others link so, are in one split.
    seed: of the split and of the order in which rows are read, anew in each epoch.
    digest: of the text and the rule that splits it; found when it is read, and then never another
        one. The text of Python is named with its version: another version's is another text.
    """

    name: ClassVar[str] = "language"

    source: str = "python"
    domain: Literal["both", "code", "prose"] = "both"
    vocab_size: int = 4096
    length: int = 256
    max_bytes: int | None = None
    heldout: float = 0.1
    seed: int = 0
    digest: str | None = None

    def __post_init__(self) -> None:
        check_count(self, "vocab_size", 300, LARGEST_VOCABULARY)
        check_count(self, "length", 16, LONGEST)
        check_count(self, "max_bytes", optional=True)
        check_count(self, "seed", 0)
        check_heldout(self)
        check_option(self, "domain", DOMAINS)
        if isinstance(self.source, os.PathLike):
            object.__setattr__(self, "source", os.fspath(self.source))
        named = isinstance(self.source, str) and bool(self.source.strip("\0 "))
        expected = "python, a text file, a folder of text files, or hf:NAME"
        check_field(self, "source", named and "\0" not in self.source, expected)
        if self.source == "python":
            object.__setattr__(self, "source", PYTHON)
        elif self.source.startswith("python-") and self.source != PYTHON:
            check_field(self, "source", False, f"{PYTHON}, which runs here: use that one's text")
        apart = self.source == PYTHON or self.domain == "both"
        check_field(self, "domain", apart, "both: only the text of Python has domains")
        valid = self.digest is None or isinstance(self.digest, str)
        check_field(self, "digest", valid, "16 hexadecimal digits, or None")
        if self.at_hand:
            self._check_digest()

    def _check_digest(self) -> None:
        try:
            digest = text_digest(self.source)
        except ValueError as error:
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"Language.source = {self.source[:80]!r}: {said}") from None
        same = self.digest in (None, digest)
        check_field(self, "digest", same, f"{digest}, that of {self.source}: its text changed")
        object.__setattr__(self, "digest", digest)

    @property
    def at_hand(self) -> bool:
        return not self.source.startswith(HUGGING_FACE)

    def forgotten(self, name: str) -> dict[str, Any]:
        """Another source has a digest of its own."""
        return {"digest": None} if name == "source" else {}

    def lighter(self) -> Task:
        """Of Python's text the first megabyte: its tokenizer takes half a minute for all of it."""
        if self.source != PYTHON:
            return self
        return replace(self, max_bytes=min(self.max_bytes or LIGHT_BYTES, LIGHT_BYTES))

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains there are, in the order of the tokens that begin them."""
        return domains_of(self.source) if self.domain == "both" else (self.domain,)

    @property
    def first_mark(self) -> int:
        """The first of the tokens that begin pieces: one a domain, then `end`, then padding."""
        return self.vocab_size - len(self.domains) - 2

    @cached_property
    def vocab(self) -> Vocabulary:
        """Byte-level BPE tokens, "<code>", "<prose>" (or another source's one), "<end>", "<pad>":
        in brackets, which no BPE token has around letters, for text has the word "end", too."""
        return _Words(self)

    @property
    def max_length(self) -> int:
        return self.length

    @property
    def max_new_tokens(self) -> int:
        return self.length - self.length // 2

    def sample(self, split: Split, start: int, n: int) -> Batch:
        """Rows start..start+n of a split. Held-out ones end, and of those `document` tells which
        rows are of the same file; training rows return in another order."""
        start, n = check_range(split, start, n)
        rows = _rows(self, split)
        if split == "train":
            index = epochs(start, n, len(rows), self.seed)
        else:
            index = np.arange(start, max(start, min(start + n, len(rows))))
        parts = rows.tokens, rows.targets, rows.document, rows.position
        return Batch(*(part[index] for part in parts))

    def prompts(self, split: Split, start: int, n: int) -> IntArray:
        """(<= n, length // 2): how the split's full pieces begin, the domains by turns."""
        start, n = check_range(split, start, n)
        rows = _rows(self, split)
        full = rows.tokens[rows.position[:, -1] == self.length - 1, : self.length // 2]
        turn = np.zeros(len(full), np.int64)
        for mark in range(self.first_mark, self.first_mark + len(self.domains)):
            own = full[:, 0] == mark
            turn[own] = np.arange(own.sum())
        return full[np.argsort(turn, kind="stable")][start : start + n]

    def clusters(self, prompts: IntArray) -> IntArray:
        """(n, length // 2) -> (n,): the held-out documents that the prompts are of, by number; what
        is of none stands alone."""
        known: dict[bytes, int] = {}
        for split in ("validation", "test"):
            rows = _rows(self, split)
            begins = rows.tokens[:, : self.length // 2]
            numbers = rows.document[:, 0].tolist()
            known |= {row.tobytes(): n for row, n in zip(begins, numbers, strict=True)}
        own = prompts.astype(np.int32)
        found = (known.get(row.tobytes(), -1 - i) for i, row in enumerate(own))
        return np.fromiter(found, np.int64, len(own))

    def text(self, tokens: IntArray) -> str:
        """The text itself; a line of their own for the tokens that begin and end a document."""
        from tokenizers import decoders

        words, decode = self.vocab.tokens, decoders.ByteLevel().decode
        parts: list[list[str]] = [[]]
        for i in self.vocab.used(tokens):
            if i < self.first_mark:
                parts[-1].append(words[i])
            else:
                parts += [[words[i]], []]
        shown = ""
        for part in filter(None, parts):
            shown += "\n" * (bool(shown) and shown[-1] != "\n") + decode(part)
        return shown

    def check(self, prompts: IntArray, completions: IntArray) -> BoolArray:
        """Is it, word for word, how a held-out document goes on? Nothing else is right or wrong."""
        check_pairs(prompts, completions)
        both = np.hstack((prompts, completions)).astype(np.int64)
        if both.shape[1] > self.length:
            return np.zeros(len(both), np.bool_)
        held = [_rows(self, split).tokens[:, : both.shape[1]] for split in SPLITS[1:]]
        return np.isin(row_hash(both), row_hash(np.concatenate(held).astype(np.int64)))

    def kinds(self, prompts: IntArray) -> npt.NDArray[np.str_]:
        """(n, P) -> (n,): the domain, by the first token."""
        return np.array(self.domains)[np.asarray(prompts)[:, 0] - self.first_mark]

    def token_bytes(self) -> IntArray:
        size = np.zeros(self.vocab_size, np.int64)
        words = _corpus(self).words
        size[: len(words)] = np.char.str_len(words)  # one character a byte
        return size


class _Words(Vocabulary):
    """Its size is known before any tokenizer is trained."""

    task: Language

    def __init__(self, task: Language) -> None:
        last = task.vocab_size - 1
        for name, value in {"task": task, "pad": last, "end": last - 1}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return self.task.vocab_size

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        words = _corpus(self.task).words.tolist()
        unused = [f"<unused {i}>" for i in range(len(words), self.task.first_mark)]
        marks = [f"<{domain}>" for domain in self.task.domains]
        return (*words, *unused, *marks, "<end>", "<pad>")


class _Corpus(NamedTuple):
    """All documents, D of them, as tokens, each with its `end`."""

    tokens: IntArray
    sizes: IntArray  # (D,)
    domain: IntArray  # (D,)
    split: IntArray  # (D,)
    words: npt.NDArray[np.str_]  # what each token stands for, one character a byte


@lru_cache(maxsize=4)
def _corpus(task: Language) -> _Corpus:
    """The tokenizer and what it made of the text, kept in the cache by all that decides them."""
    import tokenizers

    facts = {f.name: getattr(task, f.name) for f in fields(task) if f.name != "length"}
    key = json.dumps(facts | {"tokenizers": tokenizers.__version__}, sort_keys=True)
    name = f"text{CACHE_FORMAT}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def valid(arrays: dict[str, npt.NDArray[Any]]) -> bool:
        return bool(arrays["sizes"].sum() == len(arrays["tokens"]))

    return _Corpus(**cached_arrays(name, lambda: _tokenized(task)._asdict(), valid))


def _tokenized(task: Language) -> _Corpus:
    """Trains the tokenizer on the training split and encodes every document."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if task.at_hand:  # else another text would be kept as the one that the digest names
        task._check_digest()
    units = load_units(task.source, task.max_bytes)
    of_unit = split_units(units, task.seed, task.heldout)
    documents = [
        (text, task.domains.index(domain), split)
        for unit, split in zip(units, of_unit.tolist(), strict=True)
        for domain, text in unit.documents
        if domain in task.domains
    ]
    splits = np.array([split for *_, split in documents], np.int64)
    for number, name in enumerate(SPLITS):
        if number not in splits:
            raise ValueError(
                f"no {name} documents in {task.source}: {len(documents)} are too few "
                f"(max_bytes = {task.max_bytes}), or heldout = {task.heldout} is too small"
            )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=task.first_mark,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    train = SPLITS.index("train")
    tokenizer.train_from_iterator((text for text, _, s in documents if s == train), trainer)
    encoded = tokenizer.encode_batch([text for text, *_ in documents])
    ids = [[*one.ids, task.vocab.end] for one in encoded]
    words = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return _Corpus(
        np.concatenate([np.array(one, np.int32) for one in ids]),
        np.array([len(one) for one in ids]),
        np.array([domain for _, domain, _ in documents], np.int64),
        splits,
        np.array(words),
    )


@lru_cache(maxsize=6)
def _rows(task: Language, split: Split) -> Batch:
    """All rows of a split in a random order, so that any few are of many documents."""
    corpus, length = _corpus(task), task.length
    begins = np.cumsum(corpus.sizes) - corpus.sizes
    own = np.flatnonzero(corpus.split == SPLITS.index(split))
    pieces = _pieces(corpus.sizes[own].tolist(), length, packed=split == "train")
    of, begin, used, row, column = np.array(pieces).T
    # from 1: rows that are all of document 0 say nothing of which belong together
    number = np.arange(len(of)) - np.searchsorted(row, row) if split == "train" else of + 1

    piece = np.repeat(np.arange(len(of)), used)
    position = np.arange(used.sum()) - np.repeat(np.cumsum(used) - used, used)
    where = row[piece], column[piece] + position
    after = begin[piece] + position  # of the document: which token comes next
    at = begins[own][of[piece]] + after
    mark = task.first_mark + corpus.domain[own][of[piece]]
    ends = after >= corpus.sizes[own][of[piece]]  # the `end` itself has been read
    following = corpus.tokens[np.minimum(at, len(corpus.tokens) - 1)]

    def placed(values: IntArray, fill: int) -> IntArray:
        out = np.full((row[-1] + 1, length), fill, np.int32)
        out[where] = values
        return out[order]

    # the last entry keeps this stream apart from those of blocks and epochs
    order = np.random.default_rng([task.seed, SPLITS.index(split), 0, 3]).permutation(row[-1] + 1)
    return Batch(
        tokens=placed(np.where(position > 0, corpus.tokens[at - 1], mark), task.vocab.pad),
        targets=placed(np.where(ends, -1, following), -1),
        document=placed(number[piece], -1),
        position=placed(position, 0),
    )


def _pieces(sizes: list[int], length: int, packed: bool) -> list[tuple[int, int, int, int, int]]:
    """(document, first token, positions used, row, column) of each piece of documents in a row.

    A piece that holds a document's end has a position for it to be read; else its last position
    predicts the first token of the next piece.
    """
    found, row, column = [], 0, 0
    for document, size in enumerate(sizes):
        begin = 0
        while begin < size:
            left, room = size - begin, length - column
            if column and (not packed or room <= min(left, LEAST_ROOM)):
                row, column, room = row + 1, 0, length
            used = min(left + 1, room)
            found.append((document, begin, used, row, column))
            begin, column = begin + used, column + used
            if column == length:
                row, column = row + 1, 0
    return found
