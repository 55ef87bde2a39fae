"""compare.png: the fronts of several studies as a still picture.

Above: quality against speed-up, all studies in one; below: each study's own milliseconds and file
sizes, with the same axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.atomic import replacing
from search.views.compare import overlay_ranges
from search.views.compare_data import Compared, Curve, curves, latency_panels, names, size_panels
from search.views.figures import times, title
from search.views.picture import DPI, INK, PAPER, SOFT, draw, frame, legend_handles
from search.views.plot_data import Panel, quality_of
from search.views.ticks import ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

COLORS = (
    "#0f766e",
    "#4f4fc9",
    "#b8327a",
    "#8a6d00",
    "#2b7bb9",
    "#4d7c0f",
    "#7c4a2d",
    "#64748b",
)
MARKERS = "osD^P*vX"
MOST = 4  # panels in a row
WIDTH, OVERLAY, ROW, HEAD = 3.9, 4.4, 3.6, 0.95  # inches


def write(path: Path, studies: Sequence[Compared]) -> None:
    """Draw the picture and put it in its place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below = [found for found in (latency_panels(studies), size_panels(studies)) if found]
    above = curves(studies)
    ranges = overlay_ranges(studies, above)
    columns = max(2, min(max(map(len, below), default=2), MOST))
    rows = [found[k : k + columns] for found in below for k in range(0, len(found), columns)]
    heights = [*([OVERLAY] if ranges else []), *([ROW] * len(rows))]
    tall, wide = HEAD + sum(heights), WIDTH * columns
    figure = Figure(figsize=(wide, tall), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(heights),
        columns,
        height_ratios=heights,
        left=0.72 / wide,
        right=1 - 0.15 / wide,
        top=1 - HEAD / tall,
        bottom=0.55 / tall,
        hspace=0.36,
        wspace=0.24,
    )
    _head(figure, studies, tall, wide)
    if ranges:
        _overlay(figure, grid, studies, above, ranges)
    for number, row in enumerate(rows, start=1 if ranges else 0):
        _row(figure, grid, studies, row, number)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=PAPER)


def _head(figure: Figure, studies: Sequence[Compared], tall: float, wide: float) -> None:
    left = 0.28 / wide
    text = f"{studies[0].rows.task}: {len(studies)} fronts side by side"
    figure.text(left, 1 - 0.36 / tall, text, size=14, weight="bold", color=INK)
    figure.legend(
        handles=legend_handles(),
        loc="upper left",
        bbox_to_anchor=(left - 0.08 / wide, 1 - 0.42 / tall),
        ncols=5,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handletextpad=0.3,
        columnspacing=1.1,
    )


def _overlay(
    figure: Figure,
    grid: GridSpec,
    studies: Sequence[Compared],
    drawn: Sequence[Curve],
    ranges: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    quality = quality_of(studies[0].rows)
    x, y = ranges
    axes = figure.add_subplot(grid[0, :])
    marks = [(value, times(value)) for value, _ in ticks(x, "ratio", True)]
    frame(axes, (x, marks, True), (y, ticks(y, quality.unit, False), False))
    axes.set_title(
        f"validation {title(quality.name)} against the speed-up over each study's own "
        "uncompressed model, log scale",
        size=9.5,
        color=INK,
        loc="left",
        pad=8,
    )
    axes.axvline(1.0, color=SOFT, lw=1, ls=":")
    for number, curve in enumerate(drawn):
        style = _style(number)
        if curve.steps:
            axes.plot(*zip(*curve.steps, strict=True), color=style["color"], lw=1.4, alpha=0.6)
        points = [(point.speedup, point.quality) for point in curve.points]
        label = curve.name if points else f"{curve.name}: no latencies"
        xs, ys = zip(*points, strict=True) if points else ((), ())
        axes.plot(xs, ys, ls="", ms=6, label=label, **style)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best", handletextpad=0.3)


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[(number + number // len(COLORS)) % len(MARKERS)],
    }


def _row(
    figure: Figure,
    grid: GridSpec,
    studies: Sequence[Compared],
    drawn: Sequence[tuple[int, Panel]],
    row: int,
) -> None:
    told = names(studies)
    for column, (number, panel) in enumerate(drawn):
        axes = figure.add_subplot(grid[row, column])
        color = COLORS[number % len(COLORS)]
        draw(axes, panel, color)
        axes.set_title(told[number], size=9.5, color=color, loc="left")
