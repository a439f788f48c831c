"""The paper's numbers, typed a second time from the specification."""

import re
from typing import Any

from nextlat_bench.report.published import paper_protocol, paper_rows, published

TAXI_PAPER = {
    "gpt": (100, 97.0, 0.65, 160.1, 85.0),
    "mtp": (100, 98.1, 0.64, 57.7, 95.0),
    "jtp": (100, 97.1, 0.32, 215.8, 87.0),
    "nextlat": (100, 98.7, 0.71, 52.7, 95.0),
    "oracle": (100, 100, 1.00, None, 100),
}
PATH_STAR_PAPER = {
    "gpt": (49.4, 18.6, 12.6),
    "bst": (98.9, 99.9, 9.7),
    "mtp": (66.2, 21.2, 12.6),
    "jtp": (69.5, 47.3, 11.7),
    "nextlat": (97.1, 99.8, 94.3),
}
COUNTDOWN_PAPER = {
    ("gpt", None): 33.1,
    ("bst", None): 42.3,
    **dict(zip((("mtp", 1), ("mtp", 4), ("mtp", 8)), (39.2, 49.7, 57.3), strict=True)),
    **dict(zip((("jtp", 1), ("jtp", 4), ("jtp", 8)), (39.0, 49.4, 55.0), strict=True)),
    **dict(zip((("nextlat", 1), ("nextlat", 4), ("nextlat", 8)), (54.8, 57.6, 58.7), strict=True)),
}
LANGUAGE_PAPER = {
    ("gpt", None): (10.52, 17.93, 20.26, 58.82),
    ("jtp", 1): (11.08, 19.28, 21.88, 58.83),
    ("jtp", 2): (11.18, 19.60, 22.11, 58.63),
    ("mtp", 1): (10.90, 18.82, 20.23, 58.76),
    ("mtp", 2): (11.00, 18.61, 18.34, 58.69),
    ("nextlat", 1): (10.83, 18.39, 19.77, 58.79),
    ("nextlat", 2): (10.88, 18.44, 17.83, 59.21),
}
SPECULATIVE_PAPER = {
    ("jtp", 1): "1.46/0.96, 1.47/0.97, 1.47/0.98, 1.46/0.97",
    ("jtp", 2): "1.88/1.84, 1.90/1.89, 1.88/1.85, 1.89/1.86",
    ("mtp", 1): "1.38/0.91, 1.39/0.95, 1.40/0.97, 1.39/0.95",
    ("mtp", 2): "1.68/1.72, 1.72/1.83, 1.75/1.91, 1.72/1.84",
    ("nextlat", 1): "2.68/3.52, 2.72/3.64, 2.29/2.66, 2.30/2.72",
    ("nextlat", 2): "3.21/4.59, 3.32/4.86, 2.38/2.83, 2.87/3.94",
}
COST_PAPER = {
    ("gpt", None): (3.09, 1.32),
    ("mtp", 1): (2.80, 1.37),
    ("mtp", 2): (2.58, 1.42),
    ("mtp", 8): (1.70, 1.72),
    ("nextlat", 1): (3.09, 1.40),
    ("nextlat", 2): (2.79, 1.40),
    ("nextlat", 8): (1.73, 1.40),
}


def paper(name: str, *keys: str) -> dict[tuple[str, int | None], tuple[float | None, ...]]:
    """(objective, horizon) -> the numbers under these keys; no other number may be there."""
    found = {}
    for row in published()[name]["rows"]:
        numbers = row.keys() - {"objective", "horizon"}
        assert numbers <= set(keys)
        found[row["objective"], row.get("horizon")] = tuple(row.get(key) for key in keys)
    assert len(found) == len(published()[name]["rows"])
    return found


def test_published_numbers_are_the_papers() -> None:
    keys = ("next_token", "legal", "compression_released", "rank", "detour_legal")
    assert paper("taxi", *keys) == {(who, None): row for who, row in TAXI_PAPER.items()}
    found = {}
    for row in paper_rows("path_star", None, {}):
        assert (row.pop("num_nodes"), row.pop("variant")) == (100, "forward")
        found[row.pop("objective"), row.pop("degree"), row.pop("length")] = row
    assert found == {
        (who, *graph): {"sampled": value}
        for who, values in PATH_STAR_PAPER.items()
        for graph, value in zip(((2, 10), (5, 5), (7, 7)), values, strict=True)
    }
    assert paper("countdown", "released") == {who: (v,) for who, v in COUNTDOWN_PAPER.items()}
    assert paper("language", "fw_edu", "wiki", "lambada", "accuracy") == LANGUAGE_PAPER
    assert paper("cost", "steps_per_second", "parameters") == COST_PAPER
    sets = ("wikipedia", "books", "code", "math")
    keys = tuple(f"{what}_{data}" for data in sets for what in ("speedup", "accepted"))
    assert paper("speculation", *keys) == {
        who: tuple(float(number) for number in re.split(r"[/,] ?", text))
        for who, text in SPECULATIVE_PAPER.items()
    }
    [row] = paper_rows("a5", None, {})
    where = {"objective": "nextlat", "group": "A5", "length": 12}
    assert row == where | {"recurrent_3x_above": 95.0}


def test_every_published_table_names_its_source() -> None:
    tables = {name: rows for name, rows in published().items() if name != "paper"}
    assert {name for name, rows in tables.items() if rows["digitised"]} == {"path_star"}
    assert all(rows["source"] and rows["protocol"] for rows in tables.values())
    assert "read off a figure" in paper_protocol("path_star")[0]


def test_numbers_count_only_where_the_paper_measured_them() -> None:
    def numbers(name: str, objective: str, **where: Any) -> list[float]:
        keys = {"taxi": "rank", "countdown": "released", "path_star": "sampled"}
        return [row[keys[name]] for row in paper_rows(name, objective, where)]

    assert numbers("countdown", "nextlat", horizon=4) == [57.6]
    assert numbers("countdown", "nextlat", horizon=2) == []
    assert numbers("countdown", "gpt", horizon=None) == [33.1]
    assert numbers("taxi", "nextlat", horizon=1) == [52.7]  # has but one row
    assert numbers("path_star", "nextlat", degree=5, length=5, num_nodes=100) == [99.8]
    assert numbers("path_star", "nextlat", degree=5, length=5, num_nodes=50) == []
    assert numbers("path_star", "nextlat", degree=7, variant="reverse") == []
