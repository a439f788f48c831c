"""Taxi, data efficiency, spectra, training, drafts and maps: what is drawn is what was measured."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from figure_parts import bars, colour, drawn, legend, points
from figure_records import (
    data_records,
    drafts_records,
    everything,
    exhibits_of,
    small_map,
    spectrum_records,
    taxi_records,
)
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from report_records import PATH_STAR, accuracy

from nextlat_bench.report.exhibits import Exhibits
from nextlat_bench.report.figures import figure
from nextlat_bench.report.figures.curves import sizes
from nextlat_bench.report.figures.lookahead import DISTANCES
from nextlat_bench.report.figures.style import FALSE, LOOKS, OTHERS, UNUSED
from nextlat_bench.report.layouts import LAYOUTS

# ---- taxi


def test_taxi_bars_and_the_papers() -> None:
    panels = {axes.get_title("left"): axes for axes in drawn("taxi", taxi_records()).axes}
    legal = next(axes for title, axes in panels.items() if title.endswith("\nValid, legal %"))
    ours = [bar for bar in bars(legal) if not bar[3]]
    assert [(height, c) for _, height, c, _ in ours] == [
        (pytest.approx(height), colour(who))
        for who, height in (("gpt", 75), ("mtp", 81), ("jtp", 87), ("nextlat", 93))
    ]
    assert [height for _, height, _, hatched in bars(legal) if hatched] == [97.0, 98.1, 97.1, 98.7]
    rank = [height for _, height, _, hatched in bars(panels["Latent rank"]) if hatched]
    assert rank == [160.1, 57.7, 215.8, 52.7]
    assert not [bar for bar in bars(panels["Distinction, recall"]) if bar[3]]  # none of the paper's
    for title, axes in panels.items():
        if not title.startswith("Detours"):
            assert len(points(axes, marker="o")) == 12, title  # four objectives, three seeds


def test_detours_are_lines_by_the_share_of_replaced_steps() -> None:
    panels = {axes.get_title("left"): axes for axes in drawn("taxi", taxi_records()).axes}
    legal = panels["Detours, legal %"]
    assert [t.get_text() for t in legal.get_xticklabels()] == ["0", ".01", ".1", ".5", ".75"]
    good = 0.93
    means = [100 * good * (1 - 0.3 * p * (1 - good)) for p in (0, 0.01, 0.1, 0.5, 0.75)]
    found = sorted(points(legal, color=LOOKS["nextlat"][0], linestyle="-"))
    assert found == [(x, pytest.approx(y, abs=1e-4)) for x, y in enumerate(means)]
    paper = [line for line in legal.lines if line.get_color() == "none"]
    heights = [y for line in paper for y in line.get_ydata() if not np.isnan(y)]
    assert heights == [85.0, 95.0, 87.0, 95.0]


# ---- Path-Star by the number of training graphs


def test_data_efficiency() -> None:
    (axes,) = drawn("path_star_data", data_records()).axes
    sizes = ["1,000", "10,000", "100,000", "never repeated"]
    assert [label.get_text() for label in axes.get_xticklabels()] == sizes
    line = sorted(points(axes, color=LOOKS["nextlat"][0], linestyle="-"))
    shares = [0.5 + 0.5 / (1 + 8e3 / size) for size in (1e3, 1e4, 1e5, 1e7)]
    beside = [(x, pytest.approx(100 * y, abs=1e-4)) for x, y in enumerate(shares)]
    assert [(round(x), y) for x, y in line] == beside  # an objective beside another
    seeds = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert len(seeds) == 3 * 4 * 3
    assert {y for _, y in points(axes, linestyle=":")} == {50.0}
    assert axes.get_title("left") == "laptop scale, G(2,5), 20 ids"


def test_one_number_of_graphs_says_nothing_of_efficiency() -> None:
    once = [r for r in data_records() if r.task_parameters["num_train"] is None]
    assert figure("path_star_data", once)[0] is None
    other = accuracy("path_star", PATH_STAR | {"degree": 3, "num_train": 99}, "decode=greedy", 0.5)
    assert figure("path_star_data", [*once, *other])[0] is None  # another graph


def test_the_bars_show_a_graph_once() -> None:
    (axes,) = drawn("path_star", data_records()).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert [text for text in labels if "laptop" in text] == ["laptop scale\nG(2,5)\n20 ids"]


# ---- spectra and training


def test_no_interval_of_a_spectrum_passes_one() -> None:
    found = spectrum_records("taxi")
    three = [replace(found[0], seed=k, value=value) for k, value in enumerate((0.1, 0.5, 1.0))]
    columns = sizes(LAYOUTS["taxi"], found)
    assert {column.cell(three).high for column in columns} == {1.0}


def test_spectra() -> None:
    left, right = drawn("taxi_spectrum", spectrum_records("taxi")).axes
    for axes, metric in ((left, "relative"), (right, "share")):
        wanted = {
            (float(r.condition.partition("=")[2]), round(r.value, 6))
            for r in spectrum_records("taxi")
            if (r.objective, r.metric, r.seed) == ("nextlat", metric, 1) and r.value is not None
        }
        assert len(wanted) == 8
        mine = {"color": LOOKS["nextlat"][0]}
        assert points(axes, **mine, linewidth=2.0) == wanted  # the middle seed is the mean
        assert wanted <= points(axes, **mine, linewidth=0.8)
        assert len([line for line in axes.lines if line.get_linewidth() == 0.8]) == 4 * 3
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")


def test_training_curves() -> None:
    records, exhibits = everything("taxi_training")
    (axes,) = drawn("taxi_training", records, exhibits).axes
    for objective in ("gpt", "nextlat"):
        runs = sorted({r.run for r in records if r.objective == objective})
        mine = {"color": LOOKS[objective][0]}
        for run in runs:
            curve = exhibits.curves[run]
            its = {(s, round(y, 6)) for s, y in zip(curve.steps, curve.next_token, strict=True)}
            assert len(its) == 50
            assert its <= points(axes, **mine, linewidth=0.8)
        losses = [exhibits.curves[run].next_token for run in runs]
        means = dict(points(axes, **mine, linewidth=2.0))
        assert means[2000] == pytest.approx(np.mean([its[-1] for its in losses]), abs=1e-5)


def test_curves_are_of_the_runs_that_are_shown() -> None:
    records, exhibits = everything("taxi_training")
    gpt = [r for r in records if r.objective == "gpt"]
    assert legend(drawn("taxi_training", gpt, exhibits)) == ["GPT", "one seed"]
    assert figure("taxi_training", records, Exhibits())[0] is None
    assert figure("path_star_training", records, exhibits)[0] is None


# ---- drafts


def test_accepted_drafts() -> None:
    made = drawn("speculation", drafts_records())
    accepted, _, speed, _ = made.axes
    assert accepted.get_title("left") == "laptop scale\ncode"
    ticks = [label.get_text() for label in accepted.get_xticklabels()]
    assert ticks == ["1", "2", "5", "10", "adaptive"]
    mine = {"color": LOOKS["nextlat"][0], "linestyle": "-"}
    assert sorted(points(accepted, **mine)) == [
        (x, pytest.approx(0.8 * k)) for x, k in enumerate((1, 2, 5, 10, 10))
    ]
    most = points(accepted, color=LOOKS["nextlat"][0], marker="_")
    assert {(x, y) for x, y in most} == {(0, 1), (1, 2), (2, 5), (3, 10), (4, 10)}
    assert {y for _, y in points(accepted, color=LOOKS["mtp"][0], marker="_")} == {1, 2}
    assert sorted(points(speed, **mine))[2] == (2, pytest.approx(1 + 5 * 0.8 / 2))
    paper = [line for line in accepted.lines if line.get_color() == "none"]
    heights = sorted(y for line in paper for y in line.get_ydata() if not np.isnan(y))
    assert heights == [0.97, 0.98, 1.85, 1.91, 2.66, 2.83]
    assert {"d = 1", "d = 2", "most possible", "paper"} <= set(legend(made))


def test_no_panel_of_a_speed_that_nobody_measured() -> None:
    records = [r for r in drafts_records() if r.probe == "speculation"]
    assert len(drawn("speculation", records).axes) == 2
    assert len(figure("speculation", records)[1].columns) == 3 * 10


# ---- tokens ahead


def test_what_is_known_of_tokens_ahead_is_over_their_frequencies() -> None:
    made = drawn("lookahead", *everything("lookahead"))
    (panel,) = made.axes
    assert panel.get_yscale() == "log"
    for objective, gain in (("gpt", 1), ("nextlat", 2)):
        mine = dict(points(panel, color=LOOKS[objective][0], marker=LOOKS[objective][1]))
        assert mine == {k: pytest.approx(gain / k, abs=1e-6) for k in DISTANCES}
    token = dict(points(panel, color="black", linestyle=":"))
    assert token == {k: pytest.approx(0.5 / k, abs=1e-6) for k in DISTANCES if k < 6}
    assert {"d = 1", "d = 2", "the current token alone"} <= set(legend(made))


# ---- maps


def streets(axes: Axes) -> dict[str, int]:
    """How many edges of each colour."""
    found = {}
    for lines in axes.collections:
        assert isinstance(lines, LineCollection)
        found[to_hex(lines.get_color()[0])] = len(lines.get_segments())
    return found


def test_maps_side_by_side() -> None:
    records, exhibits = everything("taxi_map")
    made = drawn("taxi_map", records, exhibits)
    titles = [axes.get_title("left") for axes in made.axes]
    assert titles[0] == "GPT, seed 0\nfalse, by seed: 29.7, 30.0, 30.3 %"
    assert [title.partition(",")[0] for title in titles] == [
        "GPT",
        "MTP (d=1)",
        "JTP (d=1)",
        "NextLat (d=1)",
    ]
    assert streets(made.axes[0]) == {UNUSED: 40, FALSE: 6, "#000000": 39}
    assert [streets(axes)[FALSE] for axes in made.axes] == [6, 4, 3, 2]
    assert "© OpenStreetMap contributors" in [text.get_text() for text in made.texts]


def test_a_map_is_of_the_first_seed_that_has_one() -> None:
    records, exhibits = everything("taxi_map")
    kept = {run: its for run, its in exhibits.maps.items() if not run.startswith("r0-")}
    made = drawn("taxi_map", records, replace(exhibits, maps=kept))
    assert made.axes[0].get_title("left").startswith("GPT, seed 1\n")
    assert figure("taxi_map", records, replace(exhibits, maps={}))[0] is None


def test_a_map_is_of_the_variant_that_has_most_seeds() -> None:
    later = [
        replace(r, step=9000, run=f"z-{r.run}")
        for r in taxi_records()
        if (r.objective, r.seed) == ("gpt", 0)
    ]
    records = [*taxi_records(), *later]
    maps = exhibits_of(taxi_records()).maps | {r.run: small_map(r.run, 1) for r in later}
    made = drawn("taxi_map", records, Exhibits({}, maps))
    assert streets(made.axes[0])[FALSE] == 6


def test_what_has_no_map_leaves_no_gap() -> None:
    records, exhibits = everything("taxi_map")
    kept = {run: its for run, its in exhibits.maps.items() if "-mtp-" not in run}
    made = drawn("taxi_map", records, replace(exhibits, maps=kept))
    titles = [axes.get_title("left").partition(",")[0] for axes in made.axes]
    assert titles == ["GPT", "JTP (d=1)", "NextLat (d=1)"]


# linear sRGB as seen without long- or medium-wave cones (Machado, Oliveira and Fernandes, 2009)
BLIND = {
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (xyz @ rgb / [0.9505, 1, 1.089]).clip(0)
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", BLIND)
def test_objectives_are_told_apart_whatever_cones_one_has(eyes: str) -> None:
    """By 15 in CIELAB, where 2 is just seen; and each has a mark of its own."""
    seen = {}
    for shade, marker in [*LOOKS.values(), *OTHERS]:
        rgb = np.array(to_rgb(shade))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen[shade, marker] = lab((np.array(BLIND[eyes]) @ linear).clip(0, 1))
    assert len({marker for _, marker in seen}) == len(seen)
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen.values(), 2)) > 15


def test_seeds_without_a_map_have_no_share() -> None:
    records, exhibits = everything("taxi_map")
    fewer = [r for r in records if r.seed == 0 or r.probe != "map_reconstruction"]
    titles = [panel.get_title(loc="left") for panel in drawn("taxi_map", fewer, exhibits).axes]
    assert "seed 0\nfalse, by seed: " in titles[0]
    assert "nan" not in "".join(titles)


def test_kinds_of_text_may_differ_in_their_drafts() -> None:
    gone = ("draft=1,kind=code", "draft=1,batch=1,kind=code")
    records = [r for r in drafts_records() if r.condition not in gone]
    assert len(drawn("speculation", records).axes) == 4
