"""The front as a table for the terminal.

Knows rich, the front and its exported figures; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.measurement import Measurement, Metric, Value
from search.figures import points, title, words
from search.front import Front
from search.front_files import Validation
from search.ledger import StudyRows, TrialRow

NARROW = 6  # columns beyond these are left to front.csv


def front_table(rows: StudyRows, front: Front, validation: Validation) -> Table:
    """The members in order of the first objective, below the uncompressed model."""
    table = Table(
        title=f"Front of {rows.name}: {len(front.members)} members",
        caption=_caption(rows, validation),
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
        header_style="bold",
        box=SIMPLE_HEAD,
    )
    columns = _columns(rows, validation)
    table.add_column("trial", justify="right")
    for metric in columns:
        table.add_column(_heading(metric), justify="right")
    table.add_column("what")
    reference = validation.reference or rows.reference
    if reference is not None:
        table.add_row("", *_cells(reference, columns, reference), "uncompressed", style="dim")
    for row in front.members:
        shown = validation.of(row) or row.measurement
        style = "bold green" if front.knee and row.number == front.knee.number else ""
        cells = _cells(shown, columns, reference)
        table.add_row(str(row.number), *cells, _what(row, front), style=style)
    return table


def _columns(rows: StudyRows, validation: Validation) -> Sequence[Metric]:
    """Exported figures where there are any, else the objectives."""
    found = validation.reference or next(iter(validation.members.values()), None)
    if found is not None:
        return [value.metric for value in found.values][:NARROW]
    return [Metric(o.name, o.unit, o.direction) for o in rows.objectives]


def _cells(
    shown: Measurement | None, columns: Sequence[Metric], reference: Measurement | None
) -> list[Text]:
    values = {v.metric.name: v for v in shown.values} if shown else {}
    base = {v.metric.name: v for v in reference.values} if reference else {}
    return [_cell(values.get(m.name), base.get(m.name)) for m in columns]


def _cell(value: Value | None, base: Value | None) -> Text:
    if value is None:
        return Text("")
    text = Text(words(value.value, value.metric.unit))
    if base is None or base is value:
        return text
    if value.metric.name == "size_bytes" and value.value:
        text.append(f"  ÷{base.value / value.value:.1f}", style="dim")
    if value.metric.name.startswith("test_") and value.metric.unit == "fraction":
        text.append(f"  {points(value.value - base.value)}", style="dim")
    return text


def _what(row: TrialRow, front: Front) -> str:
    words = [f"uniform {row.baseline}" if row.baseline else "mixed"]
    if front.knee and row.number == front.knee.number:
        words.append("best.yaml")
    if not row.feasible:
        words.append("breaks a constraint")
    return ", ".join(words)


def _heading(metric: Metric) -> str:
    arrow = "↓" if metric.direction == "minimize" else "↑"
    return f"{title(metric.name)} {arrow}"


def _caption(rows: StudyRows, validation: Validation) -> str:
    if validation.members:
        return "Measured on the exported files; speed-up beside the uncompressed file in one run."
    return f"Figures of the search on the validation split ({rows.target}); not yet exported."
