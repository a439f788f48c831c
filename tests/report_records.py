"""Records made up for the tests of tables and figures."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from nextlat_bench.report.records import Record

STREETS = {"source": "heliopolis", "digest": "0123456789abcdef" * 4}
TAXI = {"streets": STREETS, "radius": 800.0, "generator": "random", "max_nodes": 40, "seed": 0}
PATH_STAR = {"degree": 2, "length": 5, "num_nodes": 20, "variant": "forward", "num_train": None}
COUNTDOWN = {"num_inputs": 3, "min_input": 1, "max_input": 60, "min_target": 10, "max_target": 99}
COUNTDOWN |= {"num_train": 200_000}
A5 = {"group": "A5", "length": 12, "test_length": 240, "num_train": None}
# fields that decide the run
RUN = ("task", "objective", "objective_parameters", "scale", "step", "task_parameters", "training")


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "run": "r0",
        "task": "taxi",
        "task_parameters": TAXI,
        "objective": "nextlat",
        "objective_parameters": {"horizon": 1},
        "decoder": {"layers": 4, "width": 128},
        "training": {"steps": 2000, "learning_rate": 0.003},
        "scale": "laptop",
        "seed": 0,
        "step": 2000,
        "probe": "trajectories",
        "probe_parameters": {"num_trials": 1000},
        "metric": "legal",
        "higher_is_better": True,
        "value": 0.9,
        "low": 0.88,
        "high": 0.92,
        "n": 1000,
    }
    return Record(**(values | changes))


def seeds(*values: float | None, **changes: Any) -> list[Record]:
    """One run for each value, of seeds 0, 1, ...; several have narrow intervals of their own."""
    who = "-".join(str(changes[name]) for name in RUN if name in changes)
    made = [record(run=f"r{i}-{who}", seed=i, value=v, **changes) for i, v in enumerate(values)]
    if len(values) == 1:
        return made
    return [r if r.value is None else replace(r, low=r.value, high=r.value) for r in made]


DETOUR = "p=0.75,replace=random"
MADE_UP = [
    *seeds(0.90, 0.94, 0.98),
    *seeds(0.5, 0.7, metric="reached"),
    *seeds(0.61, probe="compression", metric="precision", probe_parameters={"epsilon": 0.01}),
    *seeds(60.0, probe="rank", metric="effective_rank", low=55.0, high=65.0),
    *seeds(0.8, probe="detours", condition=DETOUR, n_skipped=5, skipped_because="too_far"),
    *seeds(0.8, objective="gpt", objective_parameters={}),
    *seeds(1.0, objective="oracle", objective_parameters={}, step=0),
    *seeds(0.3, scale="smoke"),
]


def accuracy(
    task: str, parameters: dict[str, Any], condition: str, *values: float | None, **more: Any
) -> list[Record]:
    """Records of the probe accuracy, a seed for each value."""
    probe = {"task": task, "task_parameters": parameters, "probe": "accuracy"}
    return seeds(*values, **(probe | {"metric": "accuracy", "condition": condition} | more))


def of(objective: str, horizon: int | None = None) -> dict[str, Any]:
    """The fields of an objective."""
    parameters = {} if horizon is None else {"horizon": horizon}
    step = 0 if objective == "oracle" else 2000
    return {"objective": objective, "objective_parameters": parameters, "step": step}


def path_star_records(**parameters: Any) -> list[Record]:
    """All that the probes say of five objectives and the true world model, on one graph."""
    found = []
    graph = PATH_STAR | parameters
    rates = {"gpt": (0.5, 0.52, 0.49), "bst": (1.0, 0.99, 0.5), "mtp": (0.55, 0.6, 0.97)}
    rates |= {"jtp": (0.51, 0.5, 0.52), "nextlat": (1.0, 0.98, 0.99), "oracle": (1.0,)}
    for objective, values in rates.items():
        who = of(objective, graph["length"] - 2 if objective in ("mtp", "jtp", "nextlat") else None)
        for decode, less in (("greedy", 1.0), ("sampled", 0.97)):
            for score in ("", ",score=branch"):
                its = [less * v + 0.01 * (score != "") * (1 - v) for v in values]
                found += accuracy("path_star", graph, f"decode={decode}{score}", *its, **who)
        forced = {"task": "path_star", "task_parameters": graph, "probe": "teacher_forced"}
        for where in ("", *(f"position={k}" for k in range(1, graph["length"] + 2))):
            right = [1.0 if where not in ("", "position=2") else (3 + v) / 4 for v in values]
            found += seeds(*right, metric="accuracy", condition=where, **forced, **who)
    return found


def countdown_records(**parameters: Any) -> list[Record]:
    """Five objectives, three horizons where there are any, on one size of problem."""
    found = []
    numbers = COUNTDOWN | parameters
    best = {("gpt", None): 0.21, ("bst", None): 0.26, ("oracle", None): 1.0}
    best |= {("mtp", h): v for h, v in ((1, 0.24), (4, 0.29), (8, 0.31))}
    best |= {("jtp", h): v for h, v in ((1, 0.23), (4, 0.27), (8, 0.33))}
    best |= {("nextlat", h): v for h, v in ((1, 0.30), (4, 0.36), (8, 0.39))}
    for (objective, horizon), value in best.items():
        values = [value, value] if objective == "oracle" else [value - 0.02, value, value + 0.015]
        for kind, more in (("heldout", 0.0), ("seen", 0.03)):
            for reading, plus in (("", 0.0), ("score=released,", 0.1), ("score=equations,", 0.4)):
                where = f"decode=greedy,{reading}kind={kind}"
                its = [min(1.0, v + more + plus) for v in values]
                found += accuracy("countdown", numbers, where, *its, **of(objective, horizon))
    return found


LENGTHS = (*range(1, 37), 48, 60, 120, 240)


def a5_records(lengths: tuple[int, ...] = LENGTHS, **parameters: Any) -> list[Record]:
    """Trunks that fall off beyond the training length, and recurrent readings that last."""
    found = []
    words = A5 | parameters
    taught = words["length"]
    for objective, lasts in {"gpt": 0, "mtp": 0, "jtp": 0, "nextlat": 40, "gru": 900}.items():
        horizon = 1 if objective in ("mtp", "jtp", "nextlat") else None
        readings = {"trunk": 1.0} if objective != "gru" else {}
        readings |= {"recurrent": float(lasts)} if lasts else {}
        for reading, scale in readings.items():
            rows = [("accuracy", f",length={k}", k) for k in lengths]
            rows += [("whole", f",length={k}", k) for k in lengths] + [("reach", "", 0)]
            for metric, where, k in rows:
                past = max(0, k - taught) / (1.5 if reading == "trunk" else 4 * scale)
                its = [
                    max(1 / 60, float(np.exp(-past * (1 + 0.3 * s)) - 0.02 * s)) for s in range(3)
                ]
                if metric == "reach":
                    its = [float(taught + scale + s) for s in range(3)]
                found += seeds(
                    *its,
                    task="a5",
                    task_parameters=words,
                    probe="length_generalization",
                    metric=metric,
                    condition=f"reading={reading}{where}",
                    **of(objective, horizon),
                )
    return found


def text_of(renderable: Any, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(renderable)
    return out.getvalue()
