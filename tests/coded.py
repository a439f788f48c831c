"""Subjects whose hidden states are known."""

import numpy as np

from nextlat_bench.subject import Subject
from nextlat_bench.taggers import RunningOracle


class Coded(Subject):
    """Each hidden state is a fixed vector of the token just read; nan where there is padding."""

    name = "coded"

    def __init__(self, task, width=24):
        self.pad = task.vocab.pad
        self.codes = np.random.default_rng(0).standard_normal((len(task.vocab), width)) + 2
        self.codes[self.pad] = np.nan
        self.embeddings = self.codes[::-1, : width // 2] ** 2

    def start(self, prompts):
        raise AssertionError("rank generates nothing")

    def hidden(self, tokens, reading="hidden"):
        if reading == "embedding":
            return np.nan_to_num(self.embeddings)[tokens].astype(np.float32)
        assert reading == "hidden"
        return self.codes[tokens].astype(np.float32)

    def predict_hidden(self, hidden, tokens):
        return None

    def read_out(self, hidden):
        raise AssertionError("rank reads no token")


class Frozen(RunningOracle):
    """Hidden states, and no dynamics."""

    name = "frozen"

    def predict_hidden(self, hidden, tokens):
        return None
