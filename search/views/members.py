"""The front's members as tables: first what decides, then what a server sees, and counted costs.

Figures are the exported file's where it was measured, else the search's. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.measurement import Measurement, Metric, Value
from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import StudyRows, TrialRow
from search.views.figures import margin, points, times, title, words
from search.views.report_data import departure, has

DETAILS = (
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "throughput",
    "peak_memory_bytes",
    "parameters",
    "macs",
    "bit_operations",
    "activation_bytes",
    "energy_uj",
    "measured_energy_mj",
)
TIMED = ("latency_ms", "speedup", *DETAILS[:4])


@dataclass(frozen=True)
class Cell:
    """One figure, with what stands beside and below it."""

    text: str = ""
    sort: float | str = ""
    spread: str = ""
    gain: str = ""
    better: bool = False
    departs: str = ""
    noisy: bool = False


@dataclass(frozen=True)
class Line:
    """One member's figures."""

    trial: int
    cells: tuple[Cell, ...]
    what: str
    knee: bool
    feasible: bool


@dataclass(frozen=True)
class Table:
    """The members' figures below the uncompressed model's."""

    columns: tuple[str, ...]
    reference: tuple[Cell, ...]
    lines: tuple[Line, ...]


def table(rows: StudyRows, front: Front, validation: Validation) -> Table:
    """What decides between members: the exported figures, or the objectives of the search."""
    if validation.reference is not None:
        every = [value.metric for value in validation.reference.values]
    else:
        every = [Metric(o.name, o.unit, o.direction) for o in rows.objectives]
    return _table(rows, front, validation, [m for m in every if m.name not in DETAILS])


def details(rows: StudyRows, front: Front, validation: Validation) -> Table:
    """Everything else that is known: percentiles, throughput, memory, and costs by count."""
    known = [m for m in (validation.reference, rows.reference) if m is not None]
    metrics = {value.metric.name: value.metric for found in known for value in found.values}
    return _table(rows, front, validation, [metrics[name] for name in DETAILS if name in metrics])


def _table(
    rows: StudyRows, front: Front, validation: Validation, metrics: Sequence[Metric]
) -> Table:
    timing = validation.timing
    noisy = timing is not None and timing.noisy_reference
    base = _joined(validation.reference, rows.reference)
    names = [metric.name for metric in metrics]
    return Table(
        columns=tuple(title(name) for name in names),
        reference=tuple(_cell(name, base, None, None, noisy) for name in names),
        lines=tuple(_line(row, rows, front, validation, names) for row in front.members),
    )


def _line(
    row: TrialRow, rows: StudyRows, front: Front, validation: Validation, names: Sequence[str]
) -> Line:
    exported = validation.of(row)
    shown = _joined(exported, row.measurement)
    base = _joined(validation.reference if exported else None, rows.reference)
    search = row.measurement if exported else None
    noisy = validation.noisy(row)
    return Line(
        trial=row.number,
        cells=tuple(_cell(name, shown, search, base, noisy) for name in names),
        what=f"uniform {row.baseline}" if row.baseline else "mixed",
        knee=front.knee is not None and front.knee.number == row.number,
        feasible=row.feasible,
    )


def _joined(first: Measurement | None, second: Measurement | None) -> Measurement | None:
    """The first's values, and what the second alone has."""
    if first is None or second is None:
        return first or second
    return Measurement(
        (*first.values, *(v for v in second.values if not has(first, v.metric.name)))
    )


def _cell(
    name: str,
    shown: Measurement | None,
    search: Measurement | None,
    base: Measurement | None,
    noisy: bool,
) -> Cell:
    if shown is None or not has(shown, name):
        return Cell()
    value = shown[name]
    against = base[name] if base is not None and has(base, name) else None
    return Cell(
        text=words(value.value, value.metric.unit),
        sort=value.value,
        spread=margin(value.spread, value.metric.unit) if value.spread else "",
        gain=_gain(value, against) if against else "",
        better=against is not None and _better(value, against),
        departs=departure(search[name], value) if search and has(search, name) else "",
        noisy=noisy and name in TIMED,
    )


def _gain(value: Value, base: Value) -> str:
    """How a member's figure stands to the uncompressed model's, where that is worth words."""
    unit = value.metric.unit
    if unit == "fraction":
        return points(value.value - base.value)
    if unit in ("bytes", "count", "uJ", "mJ") and value.value > 0 and value.value != base.value:
        return f"÷{times(base.value / value.value)[:-1]}"
    return ""


def _better(value: Value, base: Value) -> bool:
    lower = value.metric.direction == "minimize"
    return value.value < base.value if lower else value.value > base.value
