"""What every page is made of: a template, styles and scripts in one file, and panels as data.

A page needs nothing else, not even a network: plotly lies in it. Knows nothing of what a page says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from search.views.figures import count, title, words
from search.views.plot_data import Mark, Panel
from search.views.ticks import short, ticks


def render(
    name: str,
    texts: Mapping[str, Any],
    data: Mapping[str, Any],
    styles: Sequence[str],
    scripts: Sequence[str],
) -> str:
    """The page of a template, with its texts, the data of its scripts, styles and scripts."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(_template),
    )
    return environment.get_template(name).render(
        **texts,
        version=_version(),
        css=Markup("\n".join(map(_template, styles))),
        js=Markup("\n".join(map(_template, scripts))),
        plotly=Markup(_plotly()),
        data=Markup(_json(data)),
    )


def caption(panel: Panel) -> str:
    """What a panel shows."""
    scale = " (log scale)" if panel.log else ""
    return f"Validation {title(panel.y.name)} against {title(panel.x.name)}{scale}"


def hidden(panel: Panel) -> str:
    """How many trials lie outside a panel, in words; empty where none does."""
    number = panel.hidden
    return f"{count(number, 'trial')} {'is' if number == 1 else 'are'}" if number else ""


def plot(panel: Panel) -> dict[str, Any]:
    """A panel as the pages' scripts read it."""

    def point(mark: Mark, what: str) -> dict[str, Any]:
        here = f"{words(mark.x, panel.x.unit)}, {title(panel.y.name)} {words(mark.y, panel.y.unit)}"
        name = what if mark.trial is None else f"trial {mark.trial}: {what}"
        return {"x": mark.x, "y": mark.y, "hover": f"{name}<br>{here}"}

    exported = [mark for mark in panel.members if mark.exported]
    searched = [mark.as_searched() for mark in panel.members]
    moved = [mark for mark in exported if mark.moved]
    return {
        "log": panel.log,
        "x_range": panel.x_range,
        "y_range": panel.y_range,
        "x_title": title(panel.x.name),
        "x_ticks": ticks(panel.x_range, panel.x.unit, panel.log),
        "y_ticks": ticks(panel.y_range, panel.y.unit, False),
        "floor": floor(panel.floor) if panel.floor_shown else None,
        "others": [point(mark, "not on the front") for mark in panel.others],
        "searched": [point(mark, "as the search saw it") for mark in searched],
        "exported": [point(mark, "exported file") for mark in exported],
        "moved": [[[m.search_x, m.search_y], [m.x, m.y]] for m in moved],
        "baselines": [point(mark, f"uniform {mark.baseline}") for mark in panel.baselines],
        "reference": [point(panel.reference, "uncompressed")] if panel.reference else [],
        "steps": panel.steps(),
        "all": [{"x": mark.x, "y": mark.y} for mark in panel.all() if panel.shows(mark)],
        "labels": [
            {
                "x": mark.x,
                "y": mark.y,
                "label": mark.label,
                "knee": mark.knee,
                "baseline": mark.baseline is not None,
            }
            for mark in panel.labelled()
        ],
    }


def floor(value: float | None) -> dict[str, Any] | None:
    """A dispatch floor as the scripts read it."""
    return None if value is None else {"x": value, "label": f"dispatch floor {short(value, 'ms')}"}


def _json(content: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(content).replace("<", "\\u003c").replace("NaN", "null")


def _template(name: str) -> str:
    return (files("search.views") / "templates" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _version() -> str:
    try:
        return version("paredown")
    except PackageNotFoundError:
        return ""
