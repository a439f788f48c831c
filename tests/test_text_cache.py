"""Tokenized text is kept by all that decides it, and never taken for another's."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from texts import texts_task, write_texts

from nextlat_bench.tasks import language
from nextlat_bench.tasks.language import Language


@pytest.fixture
def name_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Language], str]:
    """The name of a task's file in the cache; no text is read for it."""
    names: list[str] = []

    def kept(name: str, compute: object, valid: object) -> dict[str, Any]:
        names.append(name)
        return dict.fromkeys(language._Corpus._fields, np.zeros(0))

    monkeypatch.setattr(language, "cached_arrays", kept)

    def asked(task: Language) -> str:
        language._corpus.__wrapped__(task)
        return names[-1]

    return asked


def test_texts_that_differ_have_files_of_their_own(
    name_of: Callable[[Language], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", 12)
    write_texts(tmp_path / "more", 13)
    task = texts_task(tmp_path / "texts")
    other = {
        "source": texts_task(tmp_path / "more"),
        "domain": Language(domain="code"),
        "vocab_size": replace(task, vocab_size=400),
        "max_bytes": replace(task, max_bytes=3_000),
        "heldout": replace(task, heldout=0.3),
        "seed": replace(task, seed=1),
        "digest": replace(task),
    }
    assert {*other, "length"} == {field.name for field in fields(task)}
    object.__setattr__(other["digest"], "digest", "0" * 16)  # as that of the files once changed
    names = [name_of(each) for each in (task, Language(), *other.values())]
    assert len(set(names)) == len(names)
    assert name_of(task) == names[0] == name_of(replace(task, length=30))
    monkeypatch.setattr(tokenizers, "__version__", "another")
    assert name_of(task) != names[0]


def test_files_that_change_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between a task and its text, which is never kept under another one's digest."""
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", str(tmp_path / "cache"))
    write_texts(tmp_path / "texts", 12)
    task = texts_task(tmp_path / "texts", heldout=0.3, max_bytes=100_000)
    assert texts_task(tmp_path / "texts", heldout=0.3, max_bytes=100_000) == task
    (tmp_path / "texts" / "0.txt").write_text("another log\n" * 9)
    assert texts_task(tmp_path / "texts").digest != task.digest
    with pytest.raises(ValueError, match="its text changed"):
        task.sample("train", 0, 1)
    assert not (tmp_path / "cache").exists()


def test_a_word_is_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts have the words `end` and `pad`; each token has a text of its own."""
    monkeypatch.setenv("NEXTLAT_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "log.txt").write_text("".join(f"end\npad\n{n}\n" for n in range(2_000)))
    vocab = texts_task(tmp_path / "log.txt").vocab
    assert {"end", "pad", "<end>", "<pad>"} < set(vocab.tokens)
    assert len(set(vocab.tokens)) == len(vocab)
    assert vocab.encode(vocab.decode(np.arange(len(vocab) - 1))).tolist() == [*range(319)]
