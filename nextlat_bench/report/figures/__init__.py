"""Figures as pure functions of records: every seed a mark, the paper's numbers beside ours.

They are drawn from the rows of the tables; what no row can hold of a run (its training curve, its
street map) comes from its exhibits. The same records and exhibits give the same bytes.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nextlat_bench.files import atomic_write
from nextlat_bench.registry import check_name
from nextlat_bench.report.exhibits import Exhibits, committed_exhibits
from nextlat_bench.report.figures import (
    a5,
    countdown,
    curves,
    lookahead,
    maps,
    path_star,
    speculation,
    taxi,
)
from nextlat_bench.report.figures.scene import Drawing
from nextlat_bench.report.figures.style import style
from nextlat_bench.report.layouts import own_tasks
from nextlat_bench.report.records import Record, listed
from nextlat_bench.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw", "encoded", "figure", "figures_of"]

# every figure there is, by name; a table's main one has the table's name
FIGURES: dict[str, Drawing] = {
    "taxi": taxi.BARS,
    "taxi_map": maps.MAPS,
    "path_star": path_star.GRAPHS,
    "path_star_data": path_star.DATA,
    "countdown": countdown.HORIZONS,
    "a5": a5.LENGTHS,
    "lookahead": lookahead.GAINS,
    "speculation": speculation.DRAFTS,
}
OF_ANY = {"spectrum": curves.spectra_of, "training": curves.training_of}  # also of one's own task
for _table in ("taxi", "path_star", "countdown", "a5", "language"):
    for _kind, _make in OF_ANY.items():
        FIGURES[f"{_table}_{_kind}"] = _make(_table)


def figures_of(table: str, records: Iterable[Record] = ()) -> list[str]:
    """The names of a table's figures."""
    if table in own_tasks(records):
        return [f"{table}_{kind}" for kind in OF_ANY]
    return [name for name, drawing in FIGURES.items() if drawing.table == table]


def _drawing(name: str, records: Iterable[Record]) -> Drawing:
    table, _, kind = name.rpartition("_")
    if name not in FIGURES and kind in OF_ANY and table in own_tasks(records):
        return OF_ANY[kind](table)
    return FIGURES[check_name("figure", name, list(FIGURES))]


def figure(
    name: str, records: Iterable[Record], exhibits: Exhibits | None = None
) -> "tuple[Figure | None, Table]":
    """The figure of this name, None where nothing of it was measured; and what it shows as a table:
    its own columns, every seed, no notes.

    `exhibits`: of these runs; by default the committed ones.
    """
    records = listed(records)
    drawing = _drawing(name, records)
    scene = drawing.scene(records, committed_exhibits() if exhibits is None else exhibits)
    caption = drawing.caption
    if scene.of_several:
        caption += f" Of several settings one is drawn: {'; '.join(scene.of_several)}."
    for seeds, labels in scene.of_fewer.items():
        caption += f" Of {seeds} seeds: {', '.join(dict.fromkeys(labels))}."
    its = Table(name, caption, scene.layout.columns, tuple(scene.rows), ())
    if not scene.is_measured:
        return None, its
    with style(scene.objectives):
        return drawing.make(scene), its


def encoded(drawn: "Figure", kind: Literal["png", "webp"] = "png") -> bytes:
    """As a picture of 96 colours, those of lines and bars exact, a third as large as one of
    all, and without the versions that would change its bytes. WebP, which every browser reads,
    has the same pixels in four fifths of PNG's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas, out = FigureCanvasAgg(drawn), BytesIO()
    drawn.set_dpi(150)
    with style():
        canvas.draw()  # type: ignore[no-untyped-call]  # once: `savefig` finds the layout twice
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    picture = Image.frombuffer("RGBA", canvas.get_width_height(), pixels)
    few = picture.convert("RGB").quantize(96, method=Image.Quantize.MEDIANCUT)
    how = {"optimize": True} if kind == "png" else {"lossless": True, "quality": 100}
    few.save(out, format=kind, **how)
    return out.getvalue()


def draw(
    name: str, records: Iterable[Record], path: str | Path, exhibits: Exhibits | None = None
) -> bool:
    """Writes the figure as a PNG, its folder made where it is missing. False: there is none."""
    drawn, _ = figure(name, records, exhibits)
    if drawn is None:
        return False
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    atomic_write(Path(path), encoded(drawn))
    return True
