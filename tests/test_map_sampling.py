"""The map that sampled traversals imply: at which temperature they are sampled."""

import numpy as np

from nextlat_bench.generate import generate
from nextlat_bench.probes.map_reconstruction import MapReconstruction
from nextlat_bench.subject import Subject
from nextlat_bench.tasks.taxi import Taxi


def test_traversals_are_sampled_at_the_probes_temperature(
    taxi: Taxi, known: dict[str, Subject]
) -> None:
    """What a model that errs now and then does at 3 it hardly does at 1."""
    probe, vocab = MapReconstruction(num_trials=40, temperature=3.0), taxi.vocab
    subject = known["noisy_state"]
    walks = probe.traversals(subject, taxi, np.random.default_rng(3))
    assert vocab.end is not None
    where = taxi.prompts("test", 0, 40), taxi.max_new_tokens
    hot, plain = (
        generate(
            subject,
            *where,
            end=vocab.end,
            pad=vocab.pad,
            rng=np.random.default_rng(3),
            temperature=temperature,
        )[:, 0]
        for temperature in (3.0, 1.0)
    )
    assert (hot != plain).any()
    turn = hot - taxi.map.num_nodes
    np.testing.assert_array_equal(walks.turns[:, 0], np.where((turn >= 0) & (turn < 8), turn, -1))
