"""A trained decoder as a subject: KV-cached sessions, hidden states, latent dynamics."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nextlat_bench.decoder import KeyValueCache
from nextlat_bench.device import chosen_device
from nextlat_bench.export import CONFIG, read_exported
from nextlat_bench.model import Model, build
from nextlat_bench.objectives.nextlat import NextLat
from nextlat_bench.run import Run
from nextlat_bench.run_dir import RunDir
from nextlat_bench.subject import Session, Subject
from nextlat_bench.tasks._core import FloatArray, IntArray, check_tokens

__all__ = ["TrainedModel", "TrainedSession", "load_trained"]


class TrainedModel(Subject):
    """A model as its objective reads it at inference. float32, whatever it was trained in."""

    def __init__(self, run: Run, model: Model, device: str = "cpu") -> None:
        self.run, self.model, self.device = run, model.to(device).eval(), device
        self.objective = run.objective
        self.name = run.id
        self.vocab_size = model.decoder.vocab_size
        self.readings = ("hidden", "embedding", *["trunk"] * (run.objective.head_blocks > 0))

    def start(self, prompts: IntArray) -> "TrainedSession":
        cache = KeyValueCache()
        return TrainedSession(self, cache, self.read(prompts, cache))

    @torch.inference_mode()
    def read(self, tokens: IntArray, cache: KeyValueCache) -> FloatArray:
        """(n, k) tokens after what `cache` holds, which grows -> (n, V) log-probabilities of the
        next."""
        ids, (decoder, extra) = self.to_ids(tokens), (self.model.decoder, self.model.extra)
        hidden = self.objective.hidden(decoder, extra, ids, cache)[:, -1]
        return self.log_softmax(self.objective.logits(decoder, extra, hidden, ids[:, -1]))

    @torch.inference_mode()
    def log_probs(self, tokens: IntArray) -> FloatArray:
        ids, (decoder, extra) = self.to_ids(tokens), (self.model.decoder, self.model.extra)
        hidden = self.objective.hidden(decoder, extra, ids)
        return self.log_softmax(self.objective.logits(decoder, extra, hidden, ids))

    def log_softmax(self, logits: Tensor) -> FloatArray:
        """Of (..., V) logits; an objective of somebody's own may give others."""
        who = f"{self.objective.name}.logits gave"
        if logits.shape[-1] != self.vocab_size:
            raise ValueError(f"{who} {logits.shape[-1]} a position: expected {self.vocab_size}")
        values = to_numpy(logits.log_softmax(-1))
        if np.isnan(values).any():
            raise ValueError(f"{who} what are no probabilities")
        return values

    @torch.inference_mode()
    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        if reading not in self.readings:
            raise ValueError(f"reading = {reading!r}: expected {' or '.join(self.readings)}")
        ids, (decoder, extra) = self.to_ids(tokens), (self.model.decoder, self.model.extra)
        if reading == "embedding":
            return to_numpy(decoder.embedding(ids))
        if reading == "trunk":
            layers = self.run.decoder.layers - self.objective.head_blocks
            return to_numpy(decoder.trunk(ids, layers=layers)[0])
        return to_numpy(self.objective.hidden(decoder, extra, ids))

    @torch.inference_mode()
    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray | None:
        if not isinstance(self.objective, NextLat):
            return None
        h = torch.as_tensor(hidden, device=self.device)
        return to_numpy(
            self.objective.step(self.model.decoder, self.model.extra, h, self.to_ids(tokens))
        )

    @torch.inference_mode()
    def read_out(self, hidden: FloatArray) -> FloatArray:
        h = torch.as_tensor(hidden, device=self.device)
        return to_numpy(self.model.decoder.head(h).log_softmax(-1))

    def untrained(self) -> "TrainedModel":
        """The same architecture with random weights: what a probe reads from no learning.

        Residual outputs that start at zero would leave the token's embedding alone.
        """
        decoder = replace(self.run.decoder, zero_init_residual=False)
        return TrainedModel(self.run, build(replace(self.run, decoder=decoder)), self.device)

    def to_ids(self, tokens: IntArray) -> Tensor:
        check_tokens("tokens", tokens)
        return torch.as_tensor(np.asarray(tokens, dtype=np.int64), device=self.device)


class TrainedSession(Session):
    """n sequences and the keys and values of all that was read."""

    def __init__(self, subject: TrainedModel, cache: KeyValueCache, log_probs: FloatArray) -> None:
        self.subject, self.cache, self.log_probs = subject, cache, log_probs

    def advance(self, tokens: IntArray) -> None:
        self.log_probs = self.subject.read(tokens[:, None], self.cache)

    def select(self, rows: IntArray) -> "TrainedSession":
        index = torch.as_tensor(rows, device=self.subject.device)
        return TrainedSession(self.subject, self.cache.select(index), self.log_probs[rows])


def to_numpy(values: Tensor) -> FloatArray:
    """Any device and precision -> float32 on the CPU."""
    return cast(FloatArray, values.float().cpu().numpy())


def load_trained(path: Path, device: str | None = None) -> TrainedModel:
    """The trained model of a run folder, or of an exported one."""
    run_dir = RunDir(path)
    if (path / CONFIG).exists() and not run_dir.run_json.exists():
        run, weights = read_exported(path)
    else:
        run, weights = run_dir.run(), run_dir.trained_model()
    model = build(run)
    try:
        model.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, KeyError, safetensors.SafetensorError) as error:  # of an unknown dtype
        raise ValueError(f"{run_dir.model} does not fit the run beside it: {error}") from None
    return TrainedModel(run, model, chosen_device(device))
