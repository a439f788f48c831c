"""How far ahead do the hidden states see? Linear probes of the tokens 1..20 steps on.

Source: the TinyStories experiment of arXiv 2511.05963. The model is frozen; one softmax regression
for each distance k reads the token x[t+k] off the hidden state h[t]. A model that summarises its
past, rather than just what comes next, lets more of the farther tokens be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nextlat_bench.probes._core import Measurement, Metric, NotApplicable, Probe, unmeasured
from nextlat_bench.probes._intervals import ratio_measurement, share_of_clusters
from nextlat_bench.probes._sampling import documents
from nextlat_bench.probes._states import read, readings, standardised, states_of
from nextlat_bench.subject import Subject
from nextlat_bench.tasks._core import (
    LONGEST,
    FloatArray,
    IntArray,
    Task,
    check_count,
    check_each,
    check_field,
    check_share,
    is_int,
)

__all__ = ["Lookahead", "class_log_probs"]

ROWS_A_STEP = 256
STEP_SIZE = 0.02
PENALTY = 1e-2  # of the squared weights, beside the mean loss


def class_log_probs(
    hidden: FloatArray, labels: IntArray, num_classes: int, test: FloatArray, passes: int
) -> FloatArray:
    """(n, D), (n,), C, (m, D) -> (m, C): log-probabilities by a softmax regression on n examples.

    Features standardised by the n examples; the bias begins at the classes' frequencies; Adam
    over shuffled parts, `passes` times over all, with a rate that falls to 0. Deterministic.
    """
    import torch
    from torch.nn.functional import cross_entropy

    x, z = (torch.from_numpy(h.astype(np.float32)) for h in standardised(hidden, test))
    y = torch.from_numpy(labels.astype(np.int64))
    counts = np.bincount(labels, minlength=num_classes) + 1.0
    bias = torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32, requires_grad=True)
    weight = torch.zeros(num_classes, x.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=STEP_SIZE)
    steps = passes * -(-len(x) // ROWS_A_STEP)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(passes):
        for part in torch.split(torch.randperm(len(x), generator=generator), ROWS_A_STEP):
            loss = cross_entropy(x[part] @ weight.T + bias, y[part])
            loss = loss + PENALTY / 2 * weight.square().sum()
            weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return np.asarray((z @ weight.T + bias).log_softmax(-1).numpy())


@dataclass(frozen=True, kw_only=True)
class Lookahead(Probe):
    """Accuracy and cross-entropy of linear probes by distance, "ahead=k,reading=hidden".

    Definition: `class_log_probs` of the token k steps ahead within the same held-out sequence, the
    first 1 - test_share of the documents for training and the rest for the test. Classes are the
    `num_tokens` commonest tokens of the training part, and all others together. Accuracy is of the
    likeliest of the former, so that one of the others is never read off right; cross-entropy is of
    all classes.
    Readings: "hidden", the states after the final norm, and "trunk", what the heads of MTP read;
    beside them "embedding" (of the current token), "untrained" (the same decoder with fresh
    weights, where the subject offers it) and "frequency", what the commonest tokens alone would
    give.
    Intervals are clustered by document; n counts test positions.
    """

    name: ClassVar[str] = "lookahead"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", True, "share", "test positions whose token ahead is read off right"),
        Metric("cross_entropy", False, "nats", "of the class of the token ahead"),
    )
    requires: ClassVar[frozenset[str]] = frozenset({"hidden"})

    num_sequences: int = 256
    distances: tuple[int, ...] = tuple(range(1, 21))
    num_tokens: int = 256
    passes: int = 5
    test_share: float = 0.25

    def __post_init__(self) -> None:
        check_count(self, "num_sequences", 2)
        ahead = "one or more distances, each a whole number above 0"
        check_each(self, "distances", lambda d: is_int(d) and 0 < d <= LONGEST, ahead)
        check_field(self, "distances", len(self.distances) > 0, ahead)
        check_count(self, "num_tokens", 1, LONGEST)
        check_count(self, "passes", 1, 1_000)
        check_share(self, "test_share")

    def measure(
        self, subject: Subject, task: Task, rng: np.random.Generator
    ) -> Iterator[Measurement]:
        """Deterministic: the first held-out sequences, `rng` is not used."""
        model = states_of(subject)
        if task.parallel:
            raise NotApplicable(f"the answers of {task.name} are no tokens that lie ahead")
        batch = task.sample("test", 0, self.num_sequences)
        used = batch.document >= 0
        states = {
            name: read(source, batch.tokens, used, reading)
            for name, (source, reading) in readings(model).items()
        }
        unit = np.unique(documents(batch), return_inverse=True)[1]  # (n,): of each row
        late = unit >= round((1 - self.test_share) * (unit.max() + 1))
        whole = late.all() or not late.any()
        why = "too few documents to hold some out" if whole else "no sequence is this long"
        for k in self.distances:
            ahead = np.full_like(batch.targets, -1)
            if k <= batch.targets.shape[1]:
                ahead[:, : ahead.shape[1] - k + 1] = batch.targets[:, k - 1 :]
            chosen = (ahead >= 0)[used]  # (N,): of the used positions, row by row
            row = np.nonzero(used)[0]
            train, test = chosen & ~late[row], chosen & late[row]
            if not train.any() or not test.any():
                for metric in self.metrics:
                    yield unmeasured(metric.name, why, f"ahead={k},reading=hidden")
                continue
            tokens = ahead[used]
            common = np.argsort(-np.bincount(tokens[train]), kind="stable")[: self.num_tokens]
            label = np.full(len(task.vocab), len(common))  # all others together
            label[common] = np.arange(len(common))
            labels = label[tokens]
            flat = np.zeros((len(tokens), 1))
            for name, features in (states | {"frequency": flat}).items():
                log_probs = class_log_probs(
                    features[train], labels[train], len(common) + 1, features[test], self.passes
                )
                condition = f"ahead={k},reading={name}"
                yield from scores(log_probs, labels[test], unit[row[test]], condition)


def scores(
    log_probs: FloatArray, labels: IntArray, document: IntArray, condition: str
) -> Iterator[Measurement]:
    """(n, C), (n,), (n,) -> the two metrics; the last class is never right."""
    n = len(labels)
    right = log_probs[:, :-1].argmax(axis=1) == labels
    yield Measurement("accuracy", *share_of_clusters(right, document), n, condition=condition)
    nats = -log_probs[np.arange(n), labels].astype(np.float64)
    yield ratio_measurement("cross_entropy", nats, np.ones(n), condition, document)
