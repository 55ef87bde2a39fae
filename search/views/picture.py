"""front.png: the front as a still picture, quality against each cost.

Draws what `plot_data` holds; knows matplotlib, and nothing of studies beyond that. Filled points
are exported files, rings are what the search saw, squares are uniform baselines, the diamond is
the uncompressed model. Costs have logarithmic axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.atomic import replacing
from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import StudyRows
from search.views.figures import count, title, trimmed, words
from search.views.labels import Label, place
from search.views.plot_data import Mark, Panel, panels
from search.views.ticks import ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER = "#1d2430", "#6b7686", "#e6e9ee", "#ffffff"
FRONT, SEARCHED, UNIFORM = "#0f766e", "#c3cad4", "#c2541a"
WIDTH, HEIGHT, DPI = 6.4, 5.2, 160
TICK = 0.5  # inches that one tick's words take
Line = tuple[tuple[float, float], list[tuple[float, str]], bool]  # limits, ticks, logarithmic


def write(path: Path, rows: StudyRows, front: Front, validation: Validation) -> None:
    """Draw the front and put the picture in its place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(rows, front, validation)
    width = WIDTH * max(len(drawn), 1)
    figure = Figure(figsize=(width, HEIGHT), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.62 / width + 0.015, right=0.985, top=0.8, bottom=0.13, wspace=0.2)
    for index, panel in enumerate(drawn):
        draw(figure.add_subplot(1, len(drawn), index + 1), panel)
    _head(figure, rows, front)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=PAPER)


def _head(figure: Figure, rows: StudyRows, front: Front) -> None:
    inch = 1 / figure.get_figheight()
    left = 0.28 / figure.get_figwidth()
    told = f"{count(len(front.members), 'member')} of {count(len(rows.complete()), 'trial')}"
    figure.text(left, 1 - 0.38 * inch, rows.name, size=14, weight="bold", color=INK)
    figure.text(
        left,
        1 - 0.66 * inch,
        f"Pareto front on {rows.target}: {told}. "
        "Labels: trial, and how many times less than the uncompressed model.",
        size=9.5,
        color=SOFT,
    )
    handles = legend_handles()
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.99, 1 - 0.2 * inch),
        ncols=len(handles) if figure.get_figwidth() > WIDTH else 2,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handletextpad=0.3,
        columnspacing=1.2,
    )


def legend_handles() -> list[Any]:
    """What the marks of a front are."""
    from matplotlib.lines import Line2D

    def handle(label: str, marker: str, face: str, edge: str, size: float = 7) -> Line2D:
        return Line2D(
            [], [], ls="", marker=marker, mfc=face, mec=edge, ms=size, mew=1.3, label=label
        )

    return [
        handle("exported file", "o", FRONT, FRONT),
        handle("as searched", "o", PAPER, FRONT),
        handle("uniform baseline", "s", UNIFORM, UNIFORM, 6),
        handle("uncompressed", "D", INK, INK, 6),
        handle("other trials", "o", SEARCHED, SEARCHED, 4),
    ]


def draw(axes: Axes, panel: Panel, color: str = FRONT) -> None:
    """One panel, its members in a colour."""
    marks = ticks(panel.x_range, panel.x.unit, panel.log)
    step = max(1, ceil(len(marks) * TICK * DPI / axes.get_window_extent().width))
    x = (panel.x_range, marks[::step], panel.log)
    y = (panel.y_range, ticks(panel.y_range, panel.y.unit, False), False)
    frame(axes, x, y)
    _titles(axes, panel)
    _floor(axes, panel)
    _scatter(axes, panel.others, "o", SEARCHED, 12)
    steps = panel.steps()
    axes.plot(*zip(*steps, strict=True), color=color, lw=1.4, alpha=0.55) if steps else None
    for mark in panel.members:
        if mark.moved:
            axes.plot([mark.search_x, mark.x], [mark.search_y, mark.y], color=color, lw=0.8)
    searched = [mark.as_searched() for mark in panel.members if mark.exported]
    _scatter(axes, searched, "o", PAPER, 26, edge=color)
    mixed = [mark for mark in panel.members if not mark.baseline and mark.exported]
    _scatter(axes, mixed, "o", color, 34)
    _scatter(axes, [m for m in panel.members if not m.exported], "o", PAPER, 34, edge=color)
    _scatter(axes, panel.baselines, "s", UNIFORM, 32)
    _scatter(axes, [panel.reference] if panel.reference else [], "D", INK, 38)
    _labels(axes, panel)


def _floor(axes: Axes, panel: Panel) -> None:
    """The dispatch floor, where it lies within the range."""
    if panel.floor is None or not panel.floor_shown:
        return
    axes.axvline(panel.floor, color=SOFT, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        f"dispatch floor {trimmed(words(panel.floor, panel.x.unit))}",
        (panel.floor, 0.985),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        va="top",
        size=7.5,
        color=SOFT,
    )


def _scatter(
    axes: Axes, marks: Sequence[Mark], marker: str, color: str, size: float, edge: str | None = None
) -> None:
    if marks:
        axes.scatter(
            [mark.x for mark in marks],
            [mark.y for mark in marks],
            marker=marker,
            s=size,
            c=color,
            edgecolors=edge or color,
            linewidths=1.1,
            zorder=3,
        )


def frame(axes: Axes, x: Line, y: Line) -> None:
    """Axes with these limits and ticks, and a light grid."""
    from matplotlib.ticker import NullLocator

    axes.set_facecolor(PAPER)
    axes.set_xscale("log" if x[2] else "linear")
    axes.set_xlim(*x[0])
    axes.set_ylim(*y[0])
    axes.xaxis.set_minor_locator(NullLocator())
    for line, (_, marks, _) in ((axes.xaxis, x), (axes.yaxis, y)):
        values, texts = zip(*marks, strict=True)
        line.set_ticks(values, texts)
    axes.grid(True, color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=SOFT, which="both")
    for side in axes.spines.values():
        side.set_visible(False)


def _titles(axes: Axes, panel: Panel) -> None:
    scale = ", log scale" if panel.log else ""
    axes.set_xlabel(f"{title(panel.x.name)}{scale}", size=9.5, color=INK, labelpad=6)
    axes.set_title(f"validation {title(panel.y.name)}", size=9.5, color=INK, loc="left", pad=8)
    if panel.hidden:
        note = f"{count(panel.hidden, 'trial')} above this range"
        axes.set_title(note, size=8, color=SOFT, loc="right", pad=8)


def _labels(axes: Axes, panel: Panel) -> None:
    """Direct labels: the uncompressed model, the baselines, then members from the best on."""
    marks = panel.labelled()
    to_pixels = axes.transData.transform
    pixels = [tuple(to_pixels((mark.x, mark.y))) for mark in marks]
    scale = DPI / 72
    sizes = [(len(mark.label) * 4.6 * scale + 3, 10.0 * scale) for mark in marks]
    boxes = [Label(x, y, w, h) for (x, y), (w, h) in zip(pixels, sizes, strict=True)]
    seen = [mark for mark in panel.all() if panel.shows(mark)]
    crowd = [tuple(to_pixels((mark.x, mark.y))) for mark in seen]
    left, bottom, right, top = axes.get_window_extent().extents
    places = place(boxes, crowd, (left, bottom, right, top), gap=5.0 * scale)
    for mark, centre in zip(marks, places, strict=True):
        if centre is not None:
            x, y = axes.transData.inverted().transform(centre)
            color = UNIFORM if mark.baseline else INK
            weight = "bold" if mark.knee else "normal"
            axes.text(
                x, y, mark.label, size=8, color=color, weight=weight, ha="center", va="center"
            )
