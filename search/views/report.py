"""report.html: the study on one page that needs nothing else, not even a network.

Puts what `report_data`, `plot_data` and `strips` hold into the template; plotly draws. The page
follows the reader's light or dark setting and fits a phone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from evaluation.measurement import Measurement, Metric, Value
from search.atomic import write_text
from search.configuration.secrets import without_passwords
from search.front.front import Front, find, history, told
from search.front.front_files import Validation, read_validation
from search.front.next_steps import reproduce
from search.study.ledger import Objective, StudyRows, TrialRow
from search.views import record_words
from search.views.figures import duration, margin, points, times, title, words
from search.views.plot_data import Mark, Panel, panels, ticks
from search.views.report_data import cards, departure, duels, failures, has, summary, verdict
from search.views.strips import strips

NAME = "report.html"
MOST_CELLS = 8


def write(
    rows: StudyRows,
    folder: Path,
    front: Front | None = None,
    validation: Validation | None = None,
) -> Path:
    """Write the report into the study's folder; the front and its validation if not given."""
    front = front or find(rows)
    validation = validation or read_validation(folder, rows.uid)
    return write_text(folder / NAME, render(rows, front, validation, folder))


def render(rows: StudyRows, front: Front, validation: Validation, folder: Path) -> str:
    """The page's text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(_template("report.html"))
    drawn = panels(rows, front, validation)
    return page.render(
        **_texts(rows, front, validation, drawn, folder),
        css=Markup(_template("report.css")),
        js=Markup(_template("report.js")),
        plotly=Markup(_plotly()),
        data=Markup(_json({"panels": [_plot(p) for p in drawn], **_history(rows)})),
    )


def _texts(
    rows: StudyRows, front: Front, validation: Validation, drawn: Sequence[Panel], folder: Path
) -> dict[str, Any]:
    text, config = _config(folder)
    metrics = _columns(rows, validation)
    shown = validation.reference or rows.reference
    fought = duels(rows, front)
    return {
        "rows": rows,
        "front": front,
        "summary": summary(rows, front),
        "cost": f"{duration(sum(row.seconds for row in rows.trials))} of work.",
        "when": _when(rows),
        "validated": bool(validation.members) and validation.reference is not None,
        "cards": cards(rows, front, validation),
        "panels": [{"caption": _caption(p), "hidden": _trials(p.hidden)} for p in drawn],
        "columns": [title(metric.name) for metric in metrics],
        "reference": _cells(shown, None, None, metrics) if shown else None,
        "members": [_member(row, front, validation, rows, metrics) for row in front.members],
        "simulated": _simulated(front),
        "strips": strips(rows, front),
        "verdict": verdict(rows, fought),
        "duels": fought,
        "objectives": [title(objective.name) for objective in rows.objectives],
        "steps": bool(history(rows)),
        "box": _box(rows, front),
        "failures": failures(rows),
        "commands": reproduce(rows, front, folder, config),
        "config": text,
        "version": _version(),
    }


def _columns(rows: StudyRows, validation: Validation) -> list[Metric]:
    if validation.reference is not None:
        return [value.metric for value in validation.reference.values][:MOST_CELLS]
    return [Metric(o.name, o.unit, o.direction) for o in rows.objectives]


def _member(
    row: TrialRow,
    front: Front,
    validation: Validation,
    rows: StudyRows,
    metrics: Sequence[Metric],
) -> dict[str, Any]:
    exported = validation.of(row)
    base = validation.reference if exported else rows.reference
    return {
        "trial": row.number,
        "cells": _cells(exported or row.measurement, row.measurement, base, metrics),
        "what": f"uniform {row.baseline}" if row.baseline else "mixed",
        "knee": front.knee is not None and front.knee.number == row.number,
        "feasible": row.feasible,
    }


def _simulated(front: Front) -> str:
    """The parts of the members' policies that the target only simulates; empty where none are."""
    records = [row.record or {} for row in front.members]
    return record_words.simulated_parts([x for r in records for x in r.get("layers") or ()])


def _cells(
    shown: Measurement | None,
    search: Measurement | None,
    base: Measurement | None,
    metrics: Sequence[Metric],
) -> list[dict[str, Any]]:
    return [_cell(metric.name, shown, search, base) for metric in metrics]


def _cell(
    name: str, shown: Measurement | None, search: Measurement | None, base: Measurement | None
) -> dict[str, Any]:
    if shown is None or not has(shown, name):
        return {"text": "", "sort": "", "spread": "", "gain": "", "better": False, "departs": ""}
    value = shown[name]
    compared = search is not None and search is not shown and has(search, name)
    return {
        "text": words(value.value, value.metric.unit),
        "sort": value.value,
        "spread": margin(value.spread, value.metric.unit) if value.spread else "",
        "gain": _gain(value, base[name]) if base is not None and has(base, name) else "",
        "better": base is not None and has(base, name) and _better(value, base[name]),
        "departs": departure(search[name], value) if compared and search is not None else "",
    }


def _gain(value: Value, base: Value) -> str:
    """How a member's figure stands to the uncompressed model's, where that is worth words."""
    if value.metric.unit == "fraction":
        return points(value.value - base.value)
    if value.metric.unit in ("bytes", "count") and value.value > 0:
        return f"÷{times(base.value / value.value)[:-1]}"
    return ""


def _better(value: Value, base: Value) -> bool:
    lower = value.metric.direction == "minimize"
    return value.value < base.value if lower else value.value > base.value


def _caption(panel: Panel) -> str:
    scale = " (log scale)" if panel.log else ""
    return f"Validation {title(panel.y.name)} against {title(panel.x.name)}{scale}"


def _trials(number: int) -> str:
    return f"{number} trial{'s are' if number != 1 else ' is'}" if number else ""


def _plot(panel: Panel) -> dict[str, Any]:
    """A panel as the page's script reads it."""

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


def _history(rows: StudyRows) -> dict[str, Any]:
    ends = enumerate(told(rows), start=1)
    failed = [
        (done, f"trial {row.number}: {row.reason or 'failed'}")
        for done, row in ends
        if row.state == "failed"
    ]
    return {"history": history(rows), "failed": failed}


def _box(rows: StudyRows, front: Front) -> str:
    def side(objective: Objective, value: float) -> str:
        return f"{title(objective.name)} {words(value, objective.unit)}"

    point = front.reference_point or ()
    return ", ".join(side(o, v) for o, v in zip(rows.objectives, point, strict=False))


def _when(rows: StudyRows) -> str:
    moments = [row.finished for row in rows.trials if row.finished]
    return f"Last trial {max(moments):%d %B %Y, %H:%M}" if moments else ""


def _config(folder: Path) -> tuple[str, Mapping[str, Any]]:
    path = folder / "config.yaml"
    if not path.exists():
        return "", {}
    text = without_passwords(path.read_text(encoding="utf-8"))
    found = yaml.safe_load(text)
    return text, found if isinstance(found, Mapping) else {}


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
