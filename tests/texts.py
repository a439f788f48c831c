"""A folder of small texts, the same on every machine, and a subject that is written down."""

from pathlib import Path

import numpy as np

from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks.language import Language

WORDS = ("sea", "wind", "salt", "rope", "sail", "mast", "tide", "gull", "crew", "deck", "wave")
LENGTH, VOCABULARY = 24, 320


def write_texts(folder: Path, num_files: int = 40) -> list[str]:
    """Sentences of random words; every fifth file has other letters and Windows lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    texts = []
    for number in range(num_files):
        words = rng.choice(WORDS, size=int(rng.integers(3, 120)))
        end = "\r\nÆøå 水\r\n" if number % 5 == 0 else "\n"
        texts.append(" ".join([f"Log {number}:", *words]) + end)
        (folder / f"{number}.txt").write_bytes(texts[-1].encode())
    return texts


def texts_task(folder: Path, **changed: object) -> Language:
    given = {"vocab_size": VOCABULARY, "length": LENGTH, "heldout": 0.2} | changed
    return Language(source=str(folder), **given)  # type: ignore[arg-type]


class Fixed(Subject):
    """The same next-token distribution everywhere."""

    name = "fixed"

    def __init__(self, log_p: np.ndarray) -> None:
        self.log_p, self.vocab_size = log_p, len(log_p)

    def start(self, prompts: np.ndarray) -> Session:
        raise NotImplementedError

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.log_p, (*tokens.shape, self.vocab_size))
