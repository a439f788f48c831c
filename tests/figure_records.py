"""Records and exhibits made up for the tests of figures: every objective, three seeds."""

from collections.abc import Callable
from math import exp
from typing import Any

from report_records import (
    PATH_STAR,
    TAXI,
    a5_records,
    accuracy,
    countdown_records,
    of,
    path_star_records,
    seeds,
)

from nextlat_bench.report.exhibits import Curve, Exhibits, StreetSketch
from nextlat_bench.report.records import Record

WHO = ("gpt", "mtp", "jtp", "nextlat")
LANGUAGE = {"source": "python-3.11.7", "digest": "ab" * 8, "domain": "both", "vocab_size": 8192}
LANGUAGE |= {"length": 128, "max_bytes": None}
DRAFTS = ("1", "2", "5", "10", "adaptive")
REPLACED = ("0", "0.01", "0.1", "0.5", "0.75")


def who(objective: str, horizon: int = 1) -> dict[str, Any]:
    return of(objective, None if objective in ("gpt", "bst", "gru") else horizon)


def spread(value: float, by: float = 0.01) -> list[float]:
    """Three seeds about a value."""
    return [value * (1 - by), value, value * (1 + by)]


def taxi_records(**parameters: Any) -> list[Record]:
    """Table 1's columns, distinction, detours and the map, better from objective to objective."""
    found: list[Record] = []
    for k, objective in enumerate((*WHO, "oracle")):
        good = 1.0 if objective == "oracle" else 0.75 + 0.06 * k

        def add(value: float, k: int = k, objective: str = objective, **what: Any) -> None:
            values = [value] if objective == "oracle" else spread(value)
            given = {"task_parameters": TAXI | parameters} | who(objective) | what
            found.extend(seeds(*values, **given))

        for metric in ("legal", "reached"):
            less = 0.9 if metric == "reached" and objective != "oracle" else 1.0
            add(good * less, probe="trajectories", metric=metric)
            for p in REPLACED:
                value = good * less * (1 - 0.3 * float(p) * (1 - good))
                where = f"p={p},replace=random"
                add(value, probe="detours", metric=metric, condition=where)
        add(good - 0.2, probe="compression", metric="precision")
        add(good - 0.1, probe="distinction", metric="exact_precision")
        add(good - 0.3, probe="distinction", metric="recall")
        add(30 * (5 - k), probe="rank", metric="effective_rank")
        add(0.3 - 0.06 * k, probe="map_reconstruction", metric="false_edge_share")
        add(5.0 - k, probe="map_reconstruction", metric="false_edges")
        add(40.0, probe="map_reconstruction", metric="true_edges")
    return found


def data_records() -> list[Record]:
    """Path-Star by training-set size; NextLat needs the fewest."""
    found = []
    for objective, needs in {"gpt": 1e9, "mtp": 3e5, "nextlat": 8e3, "oracle": 1}.items():
        for size in (1_000, 10_000, 100_000, None):
            share = 0.5 + 0.5 / (1 + needs / (size or 1e7))
            graph = PATH_STAR | {"num_train": size}
            its = spread(share)[:1] if objective == "oracle" else spread(share)
            found += accuracy("path_star", graph, "decode=greedy", *its, **who(objective, 3))
    return found


def drafts_records() -> list[Record]:
    """Accepted tokens, the most that can be, and the speed-up, by kind and length of a draft."""
    found = []
    for objective, horizon in ((o, h) for o in WHO[1:] for h in (1, 2)):
        more = {"task": "language", "task_parameters": LANGUAGE} | who(objective, horizon)
        for kind, ease in {"prose": 0.6, "code": 0.8}.items():
            for draft in DRAFTS:
                length = 10 if draft == "adaptive" else int(draft)
                most = length if objective == "nextlat" else min(length, horizon)
                where = f"draft={draft},kind={kind}"
                values = {"accepted": most * ease, "bound": most + 1}
                for metric, value in values.items():
                    its = {"probe": "speculation", "metric": metric, "condition": where}
                    its["probe_parameters"] = {"sampled": False}
                    found += seeds(*spread(value, 0.05), **more, **its)
                quick = {"probe": "speculation_speed", "metric": "speedup"}
                quick["condition"] = f"draft={draft},batch=1,kind={kind}"
                found += seeds(*spread(1 + most * ease / 2, 0.03), **more, **quick)
    return found


def lookahead_records() -> list[Record]:
    """Of 3.5 nats by frequencies alone 1 / k is known k ahead, twice that of NextLat's states;
    nothing of it by the token alone beyond five."""
    found = []
    for objective, horizon in (("gpt", None), ("mtp", 1), ("nextlat", 1), ("nextlat", 2)):
        more = {"task": "language", "task_parameters": LANGUAGE} | of(objective, horizon)
        more |= {"probe": "lookahead", "metric": "cross_entropy", "probe_parameters": {}}
        for k in range(1, 21):
            known = {"hidden": 1 / k, "embedding": 0.5 / k if k < 6 else -0.01, "frequency": 0}
            known["hidden"] *= 2 if objective == "nextlat" else 1
            for reading, gain in known.items():
                where = f"ahead={k},reading={reading}"
                found += seeds(*[3.5 - gain] * 3, condition=where, **more)
    return found


BASES: dict[str, Callable[[], list[Record]]] = {
    "taxi": taxi_records,
    "path_star": path_star_records,
    "countdown": countdown_records,
    "a5": a5_records,
    "language": drafts_records,
}


def spectrum_records(table: str) -> list[Record]:
    """A spectrum for each of its runs, D 128; those of the later objectives fall faster."""
    found = []
    for objective, horizon, parameters in models(table):
        fall = 0.02 * (1 + order(objective))
        sigma = [exp(-fall * k) for k in range(128)]
        for k in (1, 2, 4, 8, 16, 32, 64, 128):
            its = {"probe": "spectrum", "condition": f"largest={k}", "task": table}
            its |= {"task_parameters": parameters, "probe_parameters": {}}
            its |= of(objective, horizon)
            found += seeds(*spread(sigma[k - 1], 0.05), metric="relative", **its)
            found += seeds(*spread(sum(sigma[:k]) / sum(sigma), 0), metric="share", **its)
    return found


def models(table: str) -> list[tuple[str, int | None, dict[str, Any]]]:
    """Objective, horizon and task parameters of each model."""
    found = {}
    for r in BASES[table]():
        if r.objective != "oracle":
            horizon = r.objective_parameters.get("horizon")
            found[r.objective, horizon] = (r.objective, horizon, r.task_parameters)
    return list(found.values())


def order(objective: str) -> int:
    return ("gpt", "bst", "mtp", "jtp", "nextlat", "gru").index(objective)


def exhibits_of(records: list[Record]) -> Exhibits:
    """A falling curve and a small map for each run."""
    curves, maps = {}, {}
    for r in records:
        if r.objective == "oracle":
            continue
        k, steps = order(r.objective), [40 * (i + 1) for i in range(50)]
        losses = [1 + 3 * exp(-0.002 * (1 + k) * s) + 0.02 * r.seed for s in steps]
        curves[r.run] = Curve(run=r.run, steps=steps, next_token=losses)
        if r.task == "taxi":
            maps[r.run] = small_map(r.run, 6 - k)
    return Exhibits(curves, maps)


def small_map(run: str, num_false: int = 3) -> StreetSketch:
    """Five streets by five; a diagonal is false, the last street is not driven on."""
    nodes = [[31.3 + 0.001 * (i % 5), 30.1 + 0.001 * (i // 5)] for i in range(25)]
    streets = [[i, i + 1] for i in range(25) if i % 5 < 4] + [[i, i + 5] for i in range(20)]
    false = [[6 * i, 6 * i + 6] for i in range(4)] + [[4, 8], [8, 12]]
    return StreetSketch(
        run=run,
        source="heliopolis",
        nodes=nodes,
        streets=streets,
        true_edges=streets[:-1],
        false_edges=false[:num_false],
    )


def everything(name: str) -> tuple[list[Record], Exhibits]:
    """Records and exhibits from which the figure of this name can be drawn."""
    table, _, kind = name.rpartition("_")
    if kind == "spectrum":
        return spectrum_records(table), Exhibits()
    if kind == "training":
        return BASES[table](), exhibits_of(BASES[table]())
    if name == "taxi_map":
        return taxi_records(), exhibits_of(taxi_records())
    special = {"path_star_data": data_records, "speculation": drafts_records}
    special["lookahead"] = lookahead_records
    return special.get(name, BASES.get(name, list))(), Exhibits()
