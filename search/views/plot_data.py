"""What the front's pictures show, apart from drawing it: panels of marks, ranges, labels.

Each panel holds the first objective (the quality) against one other. Both the still picture and
the report draw from here. Values are what the exported file measured, where it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from evaluation.measurement import COSTS, LATENCY, Measurement
from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import Objective, StudyRows, TrialRow
from search.views.figures import times, words

LOGARITHMIC = ("ms", "bytes", "count", "uJ", "mJ", "J")
MOST = 3  # panels
LATENCY_MS = Objective(LATENCY.name, LATENCY.unit, LATENCY.direction)
FLOOR_NEAR = 4.0  # how many times below everything else a dispatch floor is still drawn
NEAR = 0.1  # how far from the uncompressed quality, where that is a fraction, a picture looks


@dataclass(frozen=True)
class Mark:
    """One point: where it lies, where the search saw it, what it is."""

    trial: int | None
    x: float
    y: float
    search_x: float
    search_y: float
    label: str = ""
    baseline: str | None = None
    exported: bool = False
    knee: bool = False

    @property
    def moved(self) -> bool:
        """Whether the exported file lies elsewhere than the search thought."""
        return (self.x, self.y) != (self.search_x, self.search_y)

    def as_searched(self) -> Mark:
        """The point where the search saw it."""
        return replace(self, x=self.search_x, y=self.search_y)


@dataclass(frozen=True)
class Panel:
    """One objective against another."""

    x: Objective
    y: Objective
    log: bool
    members: tuple[Mark, ...]
    baselines: tuple[Mark, ...]
    others: tuple[Mark, ...]
    reference: Mark | None
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    floor: float | None = None  # the dispatch floor, where x is a latency

    @property
    def floor_shown(self) -> bool:
        """Whether the dispatch floor lies within the range."""
        return self.floor is not None and self.x_range[0] <= self.floor <= self.x_range[1]

    def all(self) -> tuple[Mark, ...]:
        """Every mark."""
        reference = (self.reference,) if self.reference else ()
        return (*self.members, *self.baselines, *self.others, *reference)

    def shows(self, mark: Mark) -> bool:
        """Whether a mark lies within the ranges."""
        (left, right), (bottom, top) = self.x_range, self.y_range
        return left <= mark.x <= right and bottom <= mark.y <= top

    @property
    def hidden(self) -> int:
        """How many marks lie outside the ranges."""
        return sum(not self.shows(mark) for mark in self.all())

    def labelled(self) -> list[Mark]:
        """The marks to label, the most important first."""
        reference = [self.reference] if self.reference else []
        members = sorted(self.members, key=lambda mark: not mark.knee)
        ordered = [*reference, *self.baselines, *members]
        return [mark for mark in ordered if mark.label and self.shows(mark)]

    def steps(self) -> list[tuple[float, float]]:
        """The staircase below which nothing was found, of both objectives of this panel alone."""
        down = 1.0 if self.y.direction == "minimize" else -1.0
        right = 1.0 if self.x.direction == "minimize" else -1.0
        best = float("inf")
        line: list[tuple[float, float]] = []
        for mark in sorted(
            (*self.members, *self.baselines), key=lambda m: (right * m.x, down * m.y)
        ):
            if down * mark.y < best:
                if line:
                    line.append((mark.x, line[-1][1]))
                best = down * mark.y
                line.append((mark.x, mark.y))
        return line


def panels(rows: StudyRows, front: Front, validation: Validation) -> list[Panel]:
    """The quality against each cost; costs that are measured, where no other is an objective."""
    quality = quality_of(rows)
    costs = [o for o in rows.objectives if o != quality] or _measured(rows, quality)
    return [panel(rows, front, validation, cost, quality) for cost in costs[:MOST]]


def alike(drawn: Sequence[Panel]) -> list[Panel]:
    """The panels with the same ranges, which hold them all."""
    if not drawn:
        return []
    log = all(each.log for each in drawn)
    x = _around([each.x_range for each in drawn])
    y = _around([each.y_range for each in drawn])
    return [replace(each, x_range=x, y_range=y, log=log) for each in drawn]


def _around(limits: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in limits), max(high for _, high in limits)


def quality_of(rows: StudyRows) -> Objective:
    """The objective that is the task's quality: the first that is not a cost."""
    costs = {metric.name for metric in COSTS}
    return next((o for o in rows.objectives if o.name not in costs), rows.objectives[0])


def _measured(rows: StudyRows, quality: Objective) -> list[Objective]:
    metrics = [value.metric for value in rows.reference.values] if rows.reference else []
    return [Objective(m.name, m.unit, m.direction) for m in metrics if m.name != quality.name]


def panel(
    rows: StudyRows, front: Front, validation: Validation, x: Objective, y: Objective
) -> Panel:
    """One objective against another."""
    on_front = {row.number for row in front.members}
    members, baselines, others = [], [], []
    for row in rows.complete():
        mark = _mark(rows, row, front, validation, x, y)
        if row.baseline == "fp32":
            continue
        if row.baseline is not None:
            baselines.append(mark)
        elif row.number in on_front:
            members.append(mark)
        else:
            others.append(mark)
    reference = _reference(rows, validation, x, y)
    timing = validation.timing
    floor = timing.floor.value if timing and timing.floor and x == LATENCY_MS else None
    log = x.unit in LOGARITHMIC
    shown = [mark for mark in (*members, *baselines, *others, reference) if mark]
    y_range = _y_range(rows, y, [*members, *baselines, *([reference] if reference else [])], shown)
    inside = [mark for mark in shown if y_range[0] <= mark.y <= y_range[1]]
    return Panel(
        x=x,
        y=y,
        log=log and all(mark.x > 0 for mark in shown),
        members=tuple(members),
        baselines=tuple(baselines),
        others=tuple(others),
        reference=reference,
        x_range=_with_floor(_x_range(inside, log), floor),
        y_range=y_range,
        floor=floor,
    )


def _mark(
    rows: StudyRows,
    row: TrialRow,
    front: Front,
    validation: Validation,
    x: Objective,
    y: Objective,
) -> Mark:
    exported = validation.of(row)
    search_x, search_y = _read(row.measurement, x), _read(row.measurement, y)
    shown = exported or row.measurement
    base = validation.reference if exported else rows.reference
    return Mark(
        trial=row.number,
        x=_read(shown, x, search_x),
        y=_read(shown, y, search_y),
        search_x=search_x,
        search_y=search_y,
        label=_label(row, front, x, shown, base),
        baseline=row.baseline,
        exported=exported is not None,
        knee=front.knee is not None and row.number == front.knee.number,
    )


def _reference(rows: StudyRows, validation: Validation, x: Objective, y: Objective) -> Mark | None:
    if rows.reference is None:
        return None
    search_x, search_y = _read(rows.reference, x), _read(rows.reference, y)
    shown = validation.reference or rows.reference
    return Mark(
        trial=None,
        x=_read(shown, x, search_x),
        y=_read(shown, y, search_y),
        search_x=search_x,
        search_y=search_y,
        label=f"uncompressed {words(_read(shown, x, search_x), x.unit)}",
        exported=validation.reference is not None,
    )


def _label(
    row: TrialRow,
    front: Front,
    x: Objective,
    shown: Measurement | None,
    base: Measurement | None,
) -> str:
    """The member's number or name, and how many times less it costs than the uncompressed model."""
    name = row.baseline or str(row.number)
    if front.member(row.number) is None:
        return row.baseline or ""
    speedup = _read(shown, Objective("speedup", "ratio", "maximize"))
    if x.name == "latency_ms" and not math.isnan(speedup):
        return f"{name}  {times(speedup)}"
    here, there = _read(shown, x), _read(base, x)
    if x.direction == "minimize" and here > 0 and there > 0:
        return f"{name}  {times(there / here)}"
    return name


def _read(
    measurement: Measurement | None, objective: Objective, otherwise: float = float("nan")
) -> float:
    values = measurement.values if measurement else ()
    return next((v.value for v in values if v.metric.name == objective.name), otherwise)


def _y_range(
    rows: StudyRows, y: Objective, near: Iterable[Mark], shown: Iterable[Mark]
) -> tuple[float, float]:
    """Around what matters: no more than ten points worse than the uncompressed model."""
    values = [value for mark in near for value in (mark.y, mark.search_y)]
    every = [mark.y for mark in shown]
    if not values:
        values = every or [0.0, 1.0]
    if y.unit == "fraction" and rows.reference is not None:
        base = rows.reference[y.name].value
        values = [value for value in values if abs(value - base) <= NEAR] or values
    low, high = min(values), max(values)
    if y.unit == "fraction" and low < NEAR / 2:
        high = high or NEAR / 10
        return -0.06 * high, 1.18 * high
    pad = 0.12 * (high - low) or 0.1 * abs(high) or 0.01
    return low - pad, high + 1.6 * pad


def _x_range(marks: Iterable[Mark], log: bool) -> tuple[float, float]:
    values = [value for mark in marks for value in (mark.x, mark.search_x)]
    if not values:
        return (1.0, 10.0)
    low, high = min(values), max(values)
    if log and low > 0:
        factor = max((high / low) ** 0.09, 1.05)
        return low / factor, high * factor
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + pad


def _with_floor(limits: tuple[float, float], floor: float | None) -> tuple[float, float]:
    """The limits, with the dispatch floor in them where that leaves room for the front."""
    low, high = limits
    if floor is None or not low / FLOOR_NEAR <= floor < low:
        return limits
    return floor / (high / floor) ** 0.05, high
