"""A model whose hidden states are all alike, or whose drafts never begin: each probe of them leaves
rows that can be kept, and those without a value say why."""

from typing import Any

import numpy as np
import pytest

from nextlat_bench import registry
from nextlat_bench.measure import known_identity, rows
from nextlat_bench.probes._core import Probe
from nextlat_bench.probes._intervals import ratio_measurement
from nextlat_bench.probes.clock import Clock
from nextlat_bench.probes.rank import Rank
from nextlat_bench.probes.spectrum import Spectrum
from nextlat_bench.probes.transition import Transition
from nextlat_bench.taggers import RunningOracle
from nextlat_bench.tasks._core import FloatArray, IntArray
from nextlat_bench.tasks.a5 import A5

TASK = A5()
WHY = {
    "latent_distance_ratio": "it is relative to what is 0 throughout",
    "position_share": "no hidden state differs from another",
    "relative": "all singular values are 0",
    "share": "all singular values are 0",
}


class Collapsed(RunningOracle):
    name = "collapsed"

    def hidden(self, tokens: IntArray, reading: str = "hidden") -> FloatArray:
        return np.zeros((*tokens.shape, self.vocab_size))

    def predict_hidden(self, hidden: FloatArray, tokens: IntArray) -> FloatArray:
        return hidden


@pytest.mark.parametrize(
    "probe",
    [
        Transition(num_sequences=8),
        Spectrum(num_positions=200),
        Rank(num_positions=200),
        Clock(num_words=10, num_counted=10),
    ],
    ids=lambda probe: probe.name,
)
def test_its_records_can_be_written(probe: Probe) -> None:
    found = probe.measure(Collapsed(TASK), TASK, np.random.default_rng(0))
    identity: dict[str, Any] = known_identity("collapsed", TASK, "smoke")
    records = rows(iter(found), probe, registry.parameters(probe), identity)
    assert records
    for record in records:
        assert (record.value is None) == (record.metric in WHY)
        if record.value is None:
            assert (record.n, record.skipped_because) == (0, WHY[record.metric])


def test_a_ratio_to_nothing_has_no_trials() -> None:
    """As of drafts, where every completion ends with its first token."""
    row = ratio_measurement("accepted", np.zeros(3), np.zeros(3), "draft=5")
    assert np.isnan([row.value, row.low, row.high]).all()
    assert (row.n, row.condition) == (0, "draft=5")
    assert row.skipped_because == WHY["latent_distance_ratio"]
