"""Every preset is a constant: what it trains on, on what, and how large at the paper's scale."""

import hashlib
import json

import pytest
import torch

from nextlat_bench import registry
from nextlat_bench.decoder import count_parameters
from nextlat_bench.model import Model
from nextlat_bench.presets import countdown, path_star
from nextlat_bench.run import SCALES, Run, Scale
from nextlat_bench.tasks._core import SPLITS

TASKS = registry.names("tasks")
# a belief state closes with an end token; closed states go on with the tokens of other documents
IMPOSSIBLE = {("a5", "bst"): "bst needs sequences that close with an end"}
IMPOSSIBLE |= {
    (task, "closed_nextlat"): f"closed_nextlat goes on .* makes no sense in {task}"
    for task in TASKS
    if task != "a5"
}


PYTHON_TEXT = "8fd720a4eb320280"  # of CPython 3.11.7, whose text is pinned


def preset(task: str, objective: str, scale: str, **options: str) -> Run:
    made: Run = registry.load("presets", task).run(objective, scale, 0, **options)
    return made


def test_every_task_has_presets() -> None:
    assert registry.names("presets") == TASKS


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("task", TASKS)
def test_runs_of_every_objective(task: str, scale: str) -> None:
    for objective in registry.names("objectives"):
        if (task, objective) in IMPOSSIBLE:
            with pytest.raises(ValueError, match=IMPOSSIBLE[task, objective]):
                preset(task, objective, scale)
            continue
        run = preset(task, objective, scale)
        assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run
        assert (run.scale, run.objective.name, run.task.name) == (scale, objective, task)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("task", TASKS)
def test_objectives_differ_in_nothing_else(task: str, scale: str) -> None:
    """Same data, decoder and budget; only the recurrent reference has an optimizer of its own, and
    each the learning rate that is best for it."""
    objectives = [o for o in registry.names("objectives") if (task, o) not in IMPOSSIBLE]
    first, *others = (
        preset(task, objective, scale).override(["training.muon_learning_rate=0.02"])
        for objective in objectives
        if objective != "gru"
    )
    for run in others:
        assert (run.task, run.decoder, run.training) == (first.task, first.decoder, first.training)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("task", TASKS)
def test_probes_are_for_the_task(task: str, scale: str) -> None:
    """A probe that cannot apply to a task is not in its preset."""
    probes = registry.load("presets", task).probes(scale)
    assert len(set(probes)) == len(probes) >= 4  # one may be asked in two protocols
    world = preset(task, "gpt", "smoke").task.world()
    assert world is not None or not any("world" in probe.requires for probe in probes)


def digest(run: Run) -> str:
    content = hashlib.sha256()
    for split in SPLITS:
        batch = run.task.sample(split, 0, 32)
        content.update(batch.tokens.astype("<i4").tobytes())
        content.update(batch.targets.astype("<i4").tobytes())
    return content.hexdigest()[:12]


DIGESTS = {
    ("taxi", "smoke", ""): "cc490cc489b7",
    ("taxi", "laptop", ""): "a214a613e2fd",
    ("taxi", "paper", ""): "716475c81b07",
    ("path_star", "smoke", "2x3"): "2351d4fecc03",
    ("path_star", "laptop", "2x5"): "a8f9a9b8e937",
    ("path_star", "laptop", "3x4"): "338b2b1de85b",
    ("path_star", "laptop", "3x5"): "2cd06eaa253c",
    ("path_star", "paper", "2x10"): "ac9f18067131",
    ("path_star", "paper", "5x5"): "dfdc67a46f1d",
    ("path_star", "paper", "7x7"): "2fe0a7d4e85d",
    ("countdown", "smoke", ""): "76f26b1b2d89",
    ("countdown", "laptop", ""): "247a39d3ba9a",
    ("countdown", "paper", ""): "7df09ff78bc7",
    ("a5", "smoke", ""): "a49ef8316557",
    ("a5", "laptop", ""): "1ec5f8147893",
    ("a5", "paper", ""): "9034f7c54596",
    ("language", "smoke", ""): "ac4d47326b96",
    ("language", "laptop", ""): "7ba1623736b6",
}


SLOW = [("language", "laptop", "")]  # all of the text; smoke reads a part of it


@pytest.mark.parametrize(
    ("task", "scale", "graph"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case in SLOW)) for case in DIGESTS],
)
def test_first_examples(task: str, scale: str, graph: str) -> None:
    options = {"graph": graph} if graph else {}
    run = preset(task, "gpt", scale, **options)
    if task == "language" and run.task.digest != PYTHON_TEXT:
        pytest.skip(f"the text of {run.task.source} is another one")
    if scale == "paper" and task != "taxi":  # the first rows are those of a smaller fixed set
        run = run.override(["task.num_train=1024"])
    assert digest(run) == DIGESTS[task, scale, graph]


@pytest.mark.parametrize(
    ("task", "objective", "millions"),
    [
        ("a5", "gpt", 6.43 + 2 * 60 * 512 / 1e6),  # printed without embedding and head
        ("a5", "nextlat", 6.43 + 2 * 60 * 512 / 1e6 + 2.62),
        ("path_star", "gpt", 21.3),
        ("countdown", "gpt", 100.3),
        ("language", "gpt", 1319.0),
        ("language", "nextlat", 1401.7),
    ],
)
def test_the_papers_sizes(task: str, objective: str, millions: float) -> None:
    with torch.device("meta"):
        model = Model(preset(task, objective, "paper"))
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_papers_budgets() -> None:
    """Table 5."""
    found = {
        task: (t.steps, t.examples, t.learning_rate, t.weight_decay, t.clip)
        for task in ("countdown", "path_star", "a5", "language")
        for t in [preset(task, "nextlat", "paper").training]
    }
    assert found == {
        "countdown": (100_000, 1_024, 3e-4, 0.1, 1.0),
        "path_star": (20_000, 512, 5e-4, 0.1, 100.0),
        "a5": (400_000, 1_024, 1e-4, 0.01, 1.0),
        "language": (191_000, 512, 4e-4, 0.1, 1.0),
    }
    horizons = {
        graph: preset("path_star", "nextlat", "paper", graph=graph).objective.horizon
        for graph in path_star.GRAPHS["paper"]
    }
    assert horizons == {"2x10": 8, "5x5": 3, "7x7": 5}
    weights = {
        task: (o.latent_weight, o.kl_weight, o.dynamics_width)
        for task in ("countdown", "path_star", "a5", "language")
        for o in [preset(task, "nextlat", "paper").objective]
    }
    assert weights == {
        "countdown": (2.0, 1.0, 768),
        "path_star": (1.0, 1.0, 384),
        "a5": (1.0, 0.0, 1024),
        "language": (1.0, 1.0, 6528),
    }


@pytest.mark.parametrize("scale", SCALES)
def test_each_seed_of_countdown_holds_out_targets_of_its_own(scale: Scale) -> None:
    runs = [countdown.run("gpt", scale, seed) for seed in (0, 1)]
    first, second = (set(run.task.targets[1]) for run in runs)
    assert first != second


@pytest.mark.parametrize("graph", ["5", "2x", "x5", "2x5x3", "two", "-2x5", "2000x5"])
def test_bad_graphs(graph: str) -> None:
    with pytest.raises(ValueError, match=r"graph = .*: expected DEGREExLENGTH"):
        path_star.run(graph=graph)


@pytest.mark.parametrize("name", ["taxi", "path_star", "countdown", "language"])
@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_a_kind_of_nextlat_has_nextlats_settings(name: str, scale: Scale) -> None:
    """Or it would be compared at another horizon. (A5's has settings of its own.)"""
    mine, parent = (preset(name, who, scale).objective for who in ("noisy_nextlat", "nextlat"))
    assert registry.parameters(mine).items() >= registry.parameters(parent).items()
