"""compare.html: the fronts of several studies side by side, on one page that needs nothing else.

Puts what `compare_data` holds into the template. The page follows the reader's light or dark
setting and fits a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.atomic import write_text
from search.views import page
from search.views.compare_data import (
    DROPS,
    Compared,
    Curve,
    check,
    curves,
    latency_panels,
    lines,
    size_panels,
)
from search.views.figures import times, title, words
from search.views.plot_data import Panel, quality_of
from search.views.ticks import ticks
from search.views.timing_words import NOISY

TEMPLATE = "compare.html"
COLORS = 8  # in compare.css; studies beyond them take the first again, with another sign
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "x")


def write(path: Path, studies: Sequence[Compared]) -> Path:
    """Write the page."""
    return write_text(path, render(studies))


def render(studies: Sequence[Compared]) -> str:
    """The page's text."""
    check(studies)
    drawn = {"latency": latency_panels(studies), "size": size_panels(studies)}
    overlaid = curves(studies)
    data = {
        "panels": {kind: [_plot(*each) for each in found] for kind, found in drawn.items()},
        "overlay": overlay(studies, overlaid),
    }
    quality = quality_of(studies[0].rows)
    told = lines(studies)
    texts = {
        "overlaid": data["overlay"] is not None,
        "task": studies[0].rows.task,
        "quality": title(quality.name),
        "studies": told,
        "drops": [_drop(drop, quality.unit) for drop in DROPS],
        "kinds": [_kind(kind, found, told) for kind, found in drawn.items() if found],
        "curves": [(number % COLORS, curve) for number, curve in enumerate(overlaid)],
        "simulated": any(each.simulated for each in studies),
        "noisy": NOISY if any("noisy" in each.latencies for each in told) else "",
        "floors": any(each.floor for each in told),
        "objectives": len({each.rows.objectives for each in studies}) > 1,
        "validated": all(each.validation.reference for each in studies),
    }
    styles, scripts = ["report.css", "compare.css"], ["plots.js", "compare.js"]
    return page.render(TEMPLATE, texts, data, styles, scripts)


def overlay(studies: Sequence[Compared], drawn: Sequence[Curve]) -> dict[str, Any] | None:
    """Quality against speed-up, as the page's script reads it; None where nothing is timed."""
    found = overlay_ranges(studies, drawn)
    if found is None:
        return None
    x, y = found
    quality = quality_of(studies[0].rows)
    return {
        "x_range": x,
        "y_range": y,
        "x_ticks": [(value, times(value)) for value, _ in ticks(x, "ratio", True)],
        "y_ticks": ticks(y, quality.unit, False),
        "curves": [
            {
                "color": f"study-{number % COLORS}",
                "symbol": SYMBOLS[(number + number // COLORS) % len(SYMBOLS)],
                "steps": curve.steps,
                "points": [
                    {
                        "x": point.speedup,
                        "y": point.quality,
                        "hover": f"{curve.name}, trial {point.trial}<br>{times(point.speedup)} "
                        f"({words(point.latency_ms, 'ms')}), {title(quality.name)} "
                        f"{words(point.quality, quality.unit)}",
                    }
                    for point in curve.points
                ],
            }
            for number, curve in enumerate(drawn)
        ],
    }


def overlay_ranges(
    studies: Sequence[Compared], drawn: Sequence[Curve]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The ranges of speed-up and of quality; quality's are those of the panels."""
    points = [point for curve in drawn for point in curve.points]
    panels = latency_panels(studies)
    if not points or not panels:
        return None
    low = min(1.0, *(point.speedup for point in points))
    high = max(1.0, *(point.speedup for point in points))
    factor = max((high / low) ** 0.08, 1.05)
    return (low / factor, high * factor), panels[0][1].y_range


def _plot(number: int, panel: Panel) -> dict[str, Any]:
    return {**page.plot(panel), "color": f"study-{number % COLORS}"}


def _kind(kind: str, found: Sequence[tuple[int, Panel]], told: Sequence[Any]) -> dict[str, Any]:
    """A row of panels as the template reads it."""
    return {
        "kind": kind,
        "caption": page.caption(found[0][1]),
        "panels": [
            {
                "name": told[number].name,
                "color": number % COLORS,
                "hidden": page.hidden(panel),
                "floor": panel.floor_shown,
            }
            for number, panel in found
        ],
        "floor": any(panel.floor_shown for _, panel in found),
    }


def _drop(drop: float, unit: str) -> str:
    amount = f"{100 * drop:g}"
    return f"{amount} point{'' if amount == '1' else 's'}" if unit == "fraction" else f"{amount} %"
