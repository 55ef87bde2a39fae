"""The front as a table for the terminal.

Knows rich, the front and its exported figures; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evaluation.measurement import (
    MEASURED_ENERGY,
    P95,
    P99,
    PEAK_MEMORY,
    THROUGHPUT,
    Measurement,
    Metric,
    Value,
)
from search.front.front import Front
from search.front.front_files import Validation
from search.front.validate import P50
from search.study.ledger import StudyRows, TrialRow
from search.views.figures import title, words

IN_DETAIL = {P50, P95, P99, THROUGHPUT, PEAK_MEMORY, MEASURED_ENERGY}  # in the report
MOST = 6  # columns; what is beyond these is left to front.csv
ROOMY = 96


def front_table(rows: StudyRows, front: Front, validation: Validation, width: int = 120) -> Table:
    """The members in order of the first objective, below the uncompressed model.

    On a narrow terminal the speed-up stands for the latency.
    """
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
    if width < ROOMY and any(metric.name == "speedup" for metric in columns):
        columns = [metric for metric in columns if metric.name != "latency_ms"]
    table.add_column("trial", justify="right", no_wrap=True)
    for metric in columns:
        table.add_column(title(metric.name), justify="right", no_wrap=True)
    table.add_column("what")
    reference = validation.reference or rows.reference
    if reference is not None:
        table.add_row("", *_cells(reference, columns, reference), "uncompressed", style="dim")
    for row in front.members:
        shown = validation.of(row) or row.measurement
        best = front.knee is not None and row.number == front.knee.number
        style, name = ("bold green", f"* {row.number}") if best else ("", str(row.number))
        cells = _cells(shown, columns, reference)
        table.add_row(name, *cells, _what(row), style=style)
    return table


def _columns(rows: StudyRows, validation: Validation) -> Sequence[Metric]:
    """Exported figures where there are any, else the objectives."""
    found = validation.reference or next(iter(validation.members.values()), None)
    if found is not None:
        told = [value.metric for value in found.values if value.metric not in IN_DETAIL]
        return told[:MOST]
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
        text.append(f" ÷{base.value / value.value:.1f}", style="dim")
    return text


def _what(row: TrialRow) -> str:
    kind = f"uniform {row.baseline}" if row.baseline else "mixed"
    return kind if row.feasible else f"{kind}, breaks a constraint"


def _caption(rows: StudyRows, validation: Validation) -> str:
    if rows.simulated is not None:
        return f"A simulation: {rows.simulated}. No model was evaluated. * is best.yaml."
    if validation.members:
        names = {v.metric.name for found in validation.members.values() for v in found.values}
        timed = ", timed beside the uncompressed one" if "speedup" in names else ""
        basis = validation.timing.basis if validation.timing else "measured"
        if timed and basis != "measured":
            timed = f"; latencies are {basis}"
        return f"Measured on the exported files{timed}. * is best.yaml."
    return "Figures of the search on the validation split; not yet exported. * is best.yaml."
