"""Figures as pure functions of records: what is drawn is what was measured, every seed of it."""

from dataclasses import replace

import numpy as np
import pytest
from figure_parts import bars, colour, drawn, legend, points
from figure_records import everything, lookahead_records
from report_records import (
    A5,
    LENGTHS,
    a5_records,
    countdown_records,
    of,
    path_star_records,
    seeds,
)

from nextlat_bench.report.figures import figure
from nextlat_bench.report.figures.style import LOOKS

# ---- Path-Star


def test_path_star_bars_and_seeds() -> None:
    (axes,) = drawn("path_star", path_star_records()).axes
    ours = [bar for bar in bars(axes) if not bar[3]]
    assert [(height, c) for _, height, c, _ in ours] == [
        (pytest.approx(100 * np.mean(values)), colour(objective))
        for objective, values in {
            "gpt": (0.5, 0.52, 0.49),
            "bst": (1.0, 0.99, 0.5),
            "mtp": (0.55, 0.6, 0.97),
            "jtp": (0.51, 0.5, 0.52),
            "nextlat": (1.0, 0.98, 0.99),
        }.items()
    ]
    dots = points(axes, marker="o")
    assert len(dots) == 15  # greedy, every seed, no true world model
    for centre, _, _, _ in ours:
        assert sum(abs(x - centre) < 0.08 for x, _ in dots) == 3
    assert points(axes, linestyle=":") == {
        (x + side, round(100 / degree, 6))
        for x, degree in enumerate((2, 2, 5, 7))
        for side in (-0.44, 0.44)
    }
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert texts == [
        "laptop scale\nG(2,5)\n20 ids",
        *(f"paper\nG({graph})\n100 ids" for graph in ("2,10", "5,5", "7,7")),
    ]


def test_path_star_has_the_papers_bars_where_it_has_the_same_graph() -> None:
    (axes,) = drawn("path_star", path_star_records(degree=5, num_nodes=100)).axes
    beside = [bar for bar in bars(axes) if bar[0] < 0.5]
    assert [hatched for *_, hatched in beside] == [False, True] * 5
    assert [height for _, height, _, hatched in beside if hatched] == [18.6, 99.9, 21.2, 47.3, 99.8]
    assert [c for _, _, c, _ in beside[::2]] == [c for _, _, c, _ in beside[1::2]]
    other = [height for x, height, _, _ in bars(axes) if 0.5 < x < 1.5]
    assert other == [49.4, 98.9, 66.2, 69.5, 97.1]  # G(2,10), not trained here


# ---- Countdown


def test_countdown_lines_and_seeds() -> None:
    (axes,) = drawn("countdown", countdown_records()).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "1", "4", "8"]
    nextlat = {"color": LOOKS["nextlat"][0]}
    means = sorted(points(axes, **nextlat, linestyle="-"))
    assert means == [
        (x, pytest.approx(y, abs=1e-5))
        for x, y in enumerate(100 * (best - 0.005 / 3) for best in (0.30, 0.36, 0.39))
    ]
    assert points(axes, **nextlat, linestyle="--") == {(0, 54.8), (1, 57.6), (2, 58.7)}
    across = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]  # of the axes' width
    heights = sorted(round(float(line.get_ydata()[0]), 2) for line in across)
    assert heights == [20.83, 25.83, 33.1, 42.3]
    seeds_drawn = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert len(seeds_drawn) == 3 * (2 + 3 * 3)
    values = sorted(round(float(line.get_ydata()[0]), 6) for line in seeds_drawn)
    assert values[:3] == [19.0, 21.0, 21.0]


def test_a_horizon_of_two_variants_shows_the_one_of_most_seeds() -> None:
    one = [r for r in countdown_records() if (r.objective, r.seed) == ("nextlat", 0)]
    changes = {"step": 9000, "value": 0.9, "run": "later"}
    later = [replace(r, **changes) for r in one if r.objective_parameters["horizon"] == 4]
    (axes,) = drawn("countdown", [*countdown_records(), *later]).axes
    assert max(y for _, y in points(axes, color=LOOKS["nextlat"][0])) < 60
    (axes,) = drawn("countdown", [*one, *later]).axes
    assert (1, 90.0) in points(axes, color=LOOKS["nextlat"][0])  # as many seeds, more steps
    added = [
        replace(r, objective_parameters=r.objective_parameters | {"residual": False}) for r in later
    ]
    (axes,) = drawn("countdown", [*one, *added]).axes
    assert (1, 90.0) not in points(axes, color=LOOKS["nextlat"][0])  # nor with what is not usual


# ---- A5


def test_a5_curves() -> None:
    near, far = drawn("a5", a5_records()).axes
    where = {"task": "a5", "probe": "length_generalization", "metric": "accuracy"}
    for objective, reading, dashes in (
        ("gpt", "trunk", "--"),
        ("nextlat", "trunk", "--"),
        ("nextlat", "recurrent", "-"),
        ("gru", "recurrent", "-"),
    ):
        mine = [
            r
            for r in a5_records()
            if r.objective == objective
            and all(getattr(r, key) == value for key, value in where.items())
            and r.condition.startswith(f"reading={reading},")
        ]
        for seed in range(3):
            its = {
                (float(r.condition.rpartition("=")[2]), round(100 * r.value, 6))
                for r in mine
                if r.seed == seed and r.value is not None
            }
            assert len(its) == len(LENGTHS)
            for panel in (near, far):
                thin = {"color": LOOKS[objective][0], "linestyle": dashes, "linewidth": 0.8}
                assert its <= points(panel, **thin)
    for panel in (near, far):
        assert {y for _, y in points(panel, linestyle=":")} == {round(100 / 60, 6)}
    assert (near.get_xlim(), far.get_xlim()) == ((1, 36), (36, 240))
    assert far.get_xscale() == "log"
    assert (12, 0) in points(near, color="#777777")  # the training length
    curves = {line.get_color() for line in near.lines} - {"black", "#777777"}
    assert curves == {LOOKS[who][0] for who in ("gpt", "mtp", "jtp", "nextlat", "gru")}


def test_a5_mean_line() -> None:
    near, _ = drawn("a5", a5_records()).axes
    thick = points(near, color=LOOKS["gru"][0], linewidth=2.0)
    values = [
        r.value
        for r in a5_records()
        if (r.objective, r.metric, r.condition)
        == ("gru", "accuracy", "reading=recurrent,length=36")
    ]
    assert dict(thick)[36.0] == pytest.approx(100 * np.mean(values), abs=1e-5)


def test_a_reading_that_is_not_there_is_no_line_at_zero() -> None:
    gone = seeds(
        None,
        task="a5",
        task_parameters=A5,
        probe="length_generalization",
        metric="accuracy",
        condition="reading=recurrent,length=5",
        **of("gpt"),
    )
    near, _ = drawn("a5", [*a5_records(), *gone]).axes
    assert not points(near, color=LOOKS["gpt"][0], linestyle="-")


def test_short_words_have_no_panel_of_long_ones() -> None:
    short = a5_records(tuple(range(1, 13)), group="S3", length=4, test_length=12)
    assert len(drawn("a5", short).axes) == 1
    made = drawn("a5", [*a5_records(), *short])
    assert [axes.get_xlim() for axes in made.axes] == [(1, 36), (36, 240), (1, 12)]
    assert {y for _, y in points(made.axes[2], linestyle=":")} == {round(100 / 6, 6)}


# ---- what was chosen, and what is people's own


def test_the_legend_names_the_horizon_of_what_is_drawn() -> None:
    records = path_star_records()
    assert "NextLat (d=3)" in legend(drawn("path_star", records))
    assert "NextLat" in legend(drawn("countdown", countdown_records()))  # there it is the axis
    other = [
        replace(r, objective_parameters={"horizon": 1}, run=f"{r.run}-1")
        for r in records
        if (r.objective, r.seed) == ("nextlat", 0)
    ]
    assert "NextLat (d=3)" in legend(drawn("path_star", [*records, *other]))
    said = figure("path_star", [*records, *other])[1].title
    assert said.endswith("Of several settings one is drawn: NextLat (d=3).")
    assert "several" not in figure("path_star", records)[1].title


def test_a_curve_of_fewer_seeds_than_were_measured_says_so() -> None:
    records, kept = everything("taxi_training")
    [lost, *_] = [r.run for r in records if r.objective == "gpt"]
    fewer = replace(kept, curves={run: c for run, c in kept.curves.items() if run != lost})
    assert "seeds:" not in figure("taxi_training", records, kept)[1].title
    assert figure("taxi_training", records, fewer)[1].title.endswith(" Of 2 of 3 seeds: GPT.")


def test_every_horizon_that_is_drawn_is_named() -> None:
    """Dashes of more than four come again."""
    records = lookahead_records()
    far = [
        replace(r, objective_parameters={"horizon": d}, run=f"{r.run}-{d}")
        for r in records
        if (r.objective, r.objective_parameters.get("horizon")) == ("nextlat", 2)
        for d in (3, 4, 5)
    ]
    named = [text for text in legend(drawn("lookahead", [*records, *far])) if " = " in text]
    assert named == [f"d = {d}" for d in range(1, 6)]


def test_each_of_ones_own_models_is_drawn() -> None:
    """By the same adapter: six functions gave one bar, and it did not say whose."""
    records = path_star_records()
    other = {"objective": "callable", "training": {}, "decoder": {}, "step": -1}
    own = [
        replace(
            r,
            **other,
            objective_parameters={"model": f"my_models.baselines:{k}"},
            run=f"{k}",
            value=value,
        )
        for r in records
        if (r.objective, r.seed) == ("gpt", 0)
        for k, value in (("first_order", 0.25), ("of_all_that_came_before", 0.75))
    ]
    made = drawn("path_star", [*records, *own])
    assert {
        *("Callable (my_models.baselines:first_order)", "NextLat (d=3)"),
        "Callable (my_models.baselines:of_all_that_came_before)",
    } < set(legend(made))
    made.draw_without_rendering()
    box = made.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= made.bbox.width  # in rows of five it was cut off
    heights = {colour: height for _, height, colour, hatched in bars(made.axes[0]) if not hatched}
    assert sorted(heights.values())[0] == 25
    assert {25, 75} < set(heights.values())
    assert len(heights) == 7


def test_a_panel_without_a_number_says_so() -> None:
    axes = drawn("taxi", seeds(0.9, 0.8)).axes
    empty = [
        panel.get_title("left").strip()
        for panel in axes
        if "not measured" in [text.get_text() for text in panel.texts]
    ]
    assert empty == [
        *("Valid, reached %", "Compression", "Distinction, exact precision"),
        *("Distinction, recall", "Detours, legal %", "Detours, reached %"),
    ]  # of the others the paper's number stands there
