"""report.html: the study on one page that needs nothing else, not even a network.

Puts what `report_data`, `plot_data` and `strips` hold into the template; plotly draws. The page
follows the reader's light or dark setting and fits a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evaluation.measurement import COSTS
from search.atomic import write_text
from search.configuration.secrets import without_passwords
from search.front.front import Front, find, history, told
from search.front.front_files import Validation, read_validation
from search.front.next_steps import reproduce
from search.study.ledger import Objective, StudyRows
from search.views import members, page, record_words
from search.views.figures import duration, title, words
from search.views.plot_data import Panel, panels
from search.views.prediction import prediction
from search.views.report_data import cards, duels, failures, summary, verdict
from search.views.strips import strips
from search.views.surrogates import surrogates
from search.views.timing_words import searched_how, sentences

NAME = "report.html"
TEMPLATE = "report.html"


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
    drawn = panels(rows, front, validation)
    text, config = configuration(folder)
    how = searched_how(rows, config, validation.timing)
    held = prediction(rows, front, validation, how)
    data = {
        "panels": [page.plot(panel) for panel in drawn],
        "prediction": held.plot() if held else None,
        **_history(rows),
    }
    texts = {
        **_texts(rows, front, validation, drawn),
        "commands": reproduce(rows, front, folder, config),
        "config": text,
        "told": sentences(rows, validation, how),
        "how": how,
        "prediction": held.sentence() if held else "",
    }
    scripts = ["plots.js", "report.js"]
    return page.render(TEMPLATE, texts, data, ["report.css"], scripts)


def _texts(
    rows: StudyRows, front: Front, validation: Validation, drawn: Sequence[Panel]
) -> dict[str, Any]:
    fought = duels(rows, front)
    return {
        "rows": rows,
        "front": front,
        "summary": summary(rows, front),
        "cost": f"{duration(sum(row.seconds for row in rows.trials))} of work.",
        "simulation": rows.simulated,
        "when": _when(rows),
        "validated": bool(validation.members) and validation.reference is not None,
        "cards": cards(rows, front, validation),
        "panels": [{"caption": page.caption(p), "hidden": page.hidden(p)} for p in drawn],
        "floor": any(panel.floor_shown for panel in drawn),
        "members": members.table(rows, front, validation),
        "details": members.details(rows, front, validation),
        "simulated": _simulated(front),
        "strips": strips(rows, front),
        "verdict": verdict(rows, fought),
        "duels": fought,
        "objectives": [title(objective.name) for objective in rows.objectives],
        "steps": bool(history(rows)),
        "box": _box(rows, front),
        "surrogates": surrogates(rows),
        "failures": failures(rows),
    }


def _simulated(front: Front) -> str:
    """The parts of the members' policies that the target only simulates; empty where none are."""
    records = [row.record or {} for row in front.members]
    return record_words.simulated_parts([x for r in records for x in r.get("layers") or ()])


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

    if rows.point is not None:
        shares = zip(rows.objectives, rows.point, strict=True)
        said = (f"{title(o.name)} {_stated(o, p)}" for o, p in shares)
        return f"as stated: {', '.join(said)}"
    point = front.reference_point or ()
    return ", ".join(side(o, v) for o, v in zip(rows.objectives, point, strict=False))


def _stated(objective: Objective, bound: float) -> str:
    if objective.name in {metric.name for metric in COSTS}:
        return f"{bound:g} of the uncompressed model's"
    return words(bound, objective.unit)


def _when(rows: StudyRows) -> str:
    moments = [row.finished for row in rows.trials if row.finished]
    return f"Last trial {max(moments):%d %B %Y, %H:%M}" if moments else ""


def configuration(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """The study's config.yaml, as text without passwords and as data."""
    path = folder / "config.yaml"
    if not path.exists():
        return "", {}
    text = without_passwords(path.read_text(encoding="utf-8"))
    found = yaml.safe_load(text)
    return text, found if isinstance(found, Mapping) else {}
