"""Whole answers: does a subject complete held-out prompts rightly, to the last token?

NextLat (Teoh et al. 2025, arXiv 2511.05963), section 5 and Appendix F, samples at temperature 1.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nextlat_bench.generate import generate
from nextlat_bench.probes._core import Measurement, Metric, Probe
from nextlat_bench.probes._intervals import share_measurement
from nextlat_bench.probes._sampling import MAX_ROWS, end_of, top1
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import IntArray, Task, check_count, check_field

__all__ = ["Accuracy"]


@dataclass(frozen=True, kw_only=True)
class Accuracy(Probe):
    """Held-out prompts are completed, greedily and, if `sampled`, once more at temperature 1, and
    the task's exact checker says which completions are right. Where the answers are read in
    parallel nothing is generated: a completion is the top-1 token at each position that has one.

    Conditions: "decode=greedy", "decode=sampled" or "decode=parallel"; then ",score=NAME" for each
    of the task's scores but the answer itself, the headline; then ",kind=KIND" for each part of a
    divided test split. Wilson's interval for what is right or wrong; for a score that is a share of
    each completion, Student's t of its mean, cut off at 0 and 1; where trials share a cluster
    (`Task.clusters`: Countdown's targets), the interval over clusters if that is wider.
    """

    num_trials: int = 1_000
    sampled: bool = True

    name: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", True, "share", "completions that are right"),
    )
    catches: ClassVar[tuple[str, ...]] = (
        "uniform",
        "accept_everything",
        "always_end",
        "legal_walker",
        "forgetful",
        "history_hash",
        "noisy_state",
        "wrong_map",
        "clever_hans",
    )
    misses: ClassVar[tuple[str, ...]] = ("window", "drifting", "counting")

    def __post_init__(self) -> None:
        check_count(self, "num_trials")
        check_field(self, "sampled", isinstance(self.sampled, bool), "True or False")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        prompts = task.prompts("test", 0, self.num_trials)
        kinds, clusters = task.kinds(prompts), task.clusters(prompts)
        why = Counter({"beyond the split": self.num_trials - len(prompts)})
        for decode, completions in self.completions(subject, task, prompts, rng):
            for name, scored in task.scores(prompts, completions).items():
                values = np.asarray(scored)
                shape = values.shape
                if shape != (len(prompts),) or not ((values >= 0) & (values <= 1)).all():
                    raise ValueError(
                        f"{task.name}: its score {name!r} of {len(prompts)} completions has the "
                        f"shape {shape}: expected a number from 0 to 1 of each"
                    )
                counts = None if np.isin(values, (0, 1)).all() else np.ones(len(values))
                for kind in np.unique(kinds):
                    here = kinds == kind
                    facts = {"decode": decode, "score": name, "kind": str(kind)}
                    if name == "answer":
                        del facts["score"]
                    yield share_measurement(
                        "accuracy",
                        values[here],
                        None if counts is None else counts[here],
                        why,
                        ",".join(f"{key}={value}" for key, value in facts.items() if value),
                        clusters[here],
                    )

    def completions(
        self, subject: Subject, task: Task, prompts: IntArray, rng: np.random.Generator
    ) -> Iterator[tuple[str, IntArray]]:
        """(n, P) prompts -> the name of each decoding, and its (n, C) completions."""
        answers = task.answers(prompts)
        if task.parallel:
            assert answers is not None
            yield "parallel", top1(subject, prompts)[answers >= 0].reshape(len(prompts), -1)
            return
        most = task.max_new_tokens
        how: dict[str, Any] = {"end": end_of(task), "pad": task.vocab.pad, "batch": MAX_ROWS}
        yield "greedy", generate(subject, prompts, most, **how)
        if self.sampled:
            yield "sampled", generate(subject, prompts, most, **how, rng=rng)
