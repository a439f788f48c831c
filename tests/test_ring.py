"""The example plugin package, module by module: its task, its objective and its probe are right."""

import doctest
import importlib
import json
import math
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from small_models import CONFIG, initialised, made_batch, noisy

from nextlat_bench import registry
from nextlat_bench.data import step_batches
from nextlat_bench.decoder import Decoder
from nextlat_bench.known import KNOWN, known_subject
from nextlat_bench.model import build
from nextlat_bench.presets import _general
from nextlat_bench.presets import taxi as taxi_preset
from nextlat_bench.presets._core import chosen
from nextlat_bench.run import SCALES, Run
from nextlat_bench.tasks._core import SPLITS

NO_WORLD_LIKE_IT = {"clever_hans", "wrong_map", "ideal_learner"}


@pytest.fixture(autouse=True, scope="module")
def plugin() -> Iterator[dict[str, ModuleType]]:
    """The package's modules, imported from the source folder as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "plugin"))
        names = ("ring", "smooth", "entropy")
        yield {name: importlib.import_module(f"nextlat_ring.{name}") for name in names}
        for name in [name for name in sys.modules if name.startswith("nextlat_ring")]:
            del sys.modules[name]


def test_doctest(plugin: dict[str, ModuleType]) -> None:
    assert doctest.testmod(plugin["ring"]) == (0, 4)


def test_sampling_is_random_access_and_splits_share_no_pair(plugin: dict[str, ModuleType]) -> None:
    task = plugin["ring"].Ring()
    whole = task.sample("train", 0, 3_000).tokens
    assert (task.sample("train", 900, 300).tokens == whole[900:1_200]).all()
    assert (task.sample("train", 2_990, 10).tokens == whole[2_990:]).all()
    pairs = [{tuple(p) for p in task.prompts(split, 0, 4_096).tolist()} for split in SPLITS]
    assert [len(a & b) for a in pairs for b in pairs if a is not b] == [0] * 6
    assert len(set.union(*pairs)) == 12 * 12


def test_walks_obey_a_ring_walked_by_hand(plugin: dict[str, ModuleType]) -> None:
    task = plugin["ring"].Ring(num_nodes=7)
    batch = task.sample("train", 0, 200)
    for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
        start, _, goal, *turns = task.text(tokens).replace(":", "").split()
        node = int(start)
        for turn in turns[:-1]:
            node = (node + {"left": -1, "right": 1}[turn]) % 7
        assert turns[-1] == "end"
        assert node == int(goal)
        answers = [task.vocab.tokens[t] for t in targets if t >= 0]
        assert answers == turns
    right = task.check(batch.tokens[:, :2], batch.tokens[:, 2:])
    assert right.all()
    swapped = batch.tokens[:, [1, 0]]  # walked from the goal: there only if the ring is symmetric
    home = (batch.tokens[:, 0] - batch.tokens[:, 1]) * 2 % 7 == 0
    assert (task.check(swapped, batch.tokens[:, 2:]) == home).all()


def test_the_world_is_exact(plugin: dict[str, ModuleType]) -> None:
    """Every state of a small ring: distances by breadth-first search, histories by replay."""
    task = plugin["ring"].Ring(num_nodes=5)
    world, size = task.world(), len(task.vocab)
    states = np.arange(world.dead + 1)
    after = np.stack([world.advance(states, np.full(len(states), t)) for t in range(size)], axis=1)
    legal = world.legal(states)
    assert (after[~legal & (states < world.end)[:, None]] == world.dead).all()
    assert not legal[[world.end, world.dead]].any()
    assert after[world.end, task.vocab.pad] == world.end
    assert (after[world.dead] == world.dead).all()
    steps, queue = {world.end: 0}, deque([world.end])
    while queue:
        state = queue.popleft()
        for before in states[(after == state).any(axis=1) & legal.any(axis=1)].tolist():
            if before not in steps:
                steps[before] = steps[state] + 1
                queue.append(before)
    assert world.distance(states).tolist() == [steps.get(s, -1) for s in states.tolist()]
    histories = world.histories(states, 4, np.random.default_rng(0))
    reached = world.start(histories[: world.end, :2])
    for tokens in histories[: world.end, 2:].T:
        reached = world.advance(reached, tokens)
    assert (reached == states[: world.end]).all()
    assert (histories[world.end :] == task.vocab.pad).all()
    with pytest.raises(ValueError, match="expected prompts of two nodes, 0 to 4"):
        world.start(np.array([[0, 5]]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_nodes", 2), ("max_turns", 5), ("seed", -1), ("heldout", 0.5), ("num_train", 0)],
)
def test_bad_fields(plugin: dict[str, ModuleType], field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"Ring\.{field} = "):
        plugin["ring"].Ring(**{field: value})


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smooth_is_its_equation(plugin: dict[str, ModuleType], smoothing: float) -> None:
    objective = plugin["smooth"].Smooth(smoothing=smoothing)
    batch = made_batch(packed=True)
    decoder = noisy(Decoder(CONFIG, 12, 13), 0)
    losses = objective.loss(decoder, initialised(objective), batch)
    log_p = decoder.head(losses.hidden.flatten(0, 1)[batch.scored]).log_softmax(-1)
    q = torch.full_like(log_p, smoothing / 12)
    q[torch.arange(len(q)), batch.scored_targets] += 1 - smoothing
    assert losses.total.item() == pytest.approx(-(q * log_p).sum(-1).mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"Smooth\.smoothing = 2"):
        plugin["smooth"].Smooth(smoothing=2)


def test_entropy_of_known_subjects(plugin: dict[str, ModuleType]) -> None:
    task, probe = plugin["ring"].Ring(), plugin["entropy"].Entropy(num_sequences=300)
    rng = np.random.default_rng(0)
    (uniform,) = probe.measure(known_subject("uniform", task), task, rng)
    assert uniform.value == pytest.approx(math.log(16))
    (oracle,) = probe.measure(known_subject("oracle", task), task, rng)
    batch = task.sample("test", 0, 300)
    node, goals, positions = batch.tokens[:, 0].copy(), 0, 0
    for t in range(2, batch.tokens.shape[1]):  # two tokens are legal, at the goal three
        on = batch.targets[:, t - 1] >= 0
        goals, positions = goals + (on & (node == batch.tokens[:, 1])).sum(), positions + on.sum()
        node = (node + 2 * (batch.tokens[:, t] - 12) - 1) % 12
    expected = (goals * math.log(3) + (positions - goals) * math.log(2)) / positions
    assert oracle.value == pytest.approx(expected)
    assert oracle.low < oracle.value < oracle.high


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_the_general_preset(plugin: dict[str, ModuleType], scale: str) -> None:
    """Taxi's sizes and training but for the rows and the horizon; its probes run on every subject
    that is known."""
    ring = plugin["ring"].Ring()
    made = _general.run(ring, "nextlat", scale, 3)
    taxi = taxi_preset.run("nextlat", scale, 3)
    taxi = taxi.override(["training.row_length=none", "objective.horizon=1"])
    assert (made.decoder, made.training) == (taxi.decoder, taxi.training)
    assert (made.task, made.scale, made.seed) == (ring, scale, 3)
    assert made.objective == taxi.objective
    assert Run.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.id.startswith(f"ring-nextlat-{scale}-s3-")


def test_no_paper_scale_for_what_the_paper_has_not(plugin: dict[str, ModuleType]) -> None:
    with pytest.raises(ValueError, match="--scale paper: the paper has no ring; use smoke or la"):
        _general.run(plugin["ring"].Ring(), "gpt", "paper", 0)


@pytest.mark.parametrize("name", sorted(KNOWN.keys() - NO_WORLD_LIKE_IT))
def test_general_probes_tell_what_they_say(plugin: dict[str, ModuleType], name: str) -> None:
    """On the ring too: who is caught falls short of the oracle somewhere."""
    task = plugin["ring"].Ring()
    subject, rng = known_subject(name, task), np.random.default_rng(0)
    probes = {probe.name: probe for probe in _general.probes("smoke")}
    legal, reached = (m.value for m in probes["trajectories"].measure(subject, task, rng))
    expected = {"oracle": (1, 1), "shortest_path_oracle": (1, 1), "noisy_state": (1, 1)}
    expected |= {"always_end": (1, 0), "legal_walker": (1, 0)}
    if name in expected:
        assert (legal, reached) == expected[name]
    else:
        assert reached < 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("task", registry.names("tasks"))
def test_every_preset_takes_an_objective_of_another_package(task: str, scale: str) -> None:
    made = registry.load("presets", task).run("nextlat_ring.smooth:Smooth", scale, 0)
    gpt = registry.load("presets", task).run("gpt", scale, 0)
    assert (made.task, made.decoder, made.training) == (gpt.task, gpt.decoder, gpt.training)
    assert Run.from_json(json.loads(json.dumps(made.to_json()))) == made
    if scale == "smoke":
        model = build(made)
        (batch,) = step_batches(made.task, 0, 16, made.training.row_length, 1)
        total = made.objective.loss(model.decoder, model.extra, batch).total
        assert total.isfinite()


def test_a_presets_settings_hold_however_the_objective_is_named() -> None:
    made = chosen("nextlat_ring.smooth:Smooth", {"smooth": {"smoothing": 0.3}})
    assert made.smoothing == 0.3
