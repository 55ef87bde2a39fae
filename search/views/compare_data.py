"""Several studies of one task beside each other: what the page and the picture both show.

Absolute latencies of different runtimes and of simulations do not compare; speed-ups over each
study's own uncompressed model do. Files that were not measured yet are shown as the search saw
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressors.errors import UserError
from evaluation.measurement import SIZE, Measurement
from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import Objective, StudyRows, TrialRow
from search.views.figures import TIMES, spread_words, times, words
from search.views.plot_data import LATENCY_MS, Panel, alike, panel, quality_of
from search.views.report_data import has
from search.views.timing_words import short

DROPS = (0.005, 0.01)
SIZE_BYTES = Objective(SIZE.name, SIZE.unit, SIZE.direction)


@dataclass(frozen=True)
class Compared:
    """One study: its rows, its front, what its files gave."""

    rows: StudyRows
    front: Front
    validation: Validation

    @property
    def simulated(self) -> bool:
        """Whether its latencies, or all of its figures, are of a machine that is not there."""
        if self.rows.simulated is not None:
            return True
        timing = self.validation.timing
        return timing is not None and timing.basis == "computed"

    @property
    def reference(self) -> Measurement | None:
        """The uncompressed model's figures, of the file where it was measured."""
        return self.validation.reference or self.rows.reference

    def figures(self, row: TrialRow) -> tuple[Measurement | None, Measurement | None]:
        """A trial's figures, and the uncompressed model's that they are held against."""
        exported = self.validation.of(row)
        if exported is not None and self.validation.reference is not None:
            return exported, self.validation.reference
        return row.measurement, self.rows.reference

    @property
    def timed(self) -> bool:
        """Whether anything is known of its latency."""
        return has(self.reference, LATENCY_MS.name)


@dataclass(frozen=True)
class Point:
    """A member by its speed-up: over its study's own uncompressed model."""

    trial: int
    speedup: float
    quality: float
    latency_ms: float


@dataclass(frozen=True)
class Curve:
    """The members of one study by speed-up, and the staircase of the best of them."""

    name: str
    points: tuple[Point, ...]
    steps: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Within:
    """The best that keeps the quality within a drop: `3.2× · trial 7`."""

    fastest: str
    smallest: str


@dataclass(frozen=True)
class Line:
    """One study in the table."""

    name: str
    study: str
    latencies: str
    quality: str
    latency: str
    size: str
    within: tuple[Within, ...]
    hypervolume: str
    trials: int
    members: int
    floor: str


def check(studies: Sequence[Compared]) -> None:
    """Refuse what cannot stand side by side."""
    if len(studies) < 2:
        raise UserError(f"compare takes two studies or more; {len(studies)} is named.")
    tasks = list(dict.fromkeys(each.rows.task for each in studies))
    if len(tasks) > 1:
        raise UserError(f"Studies of different tasks do not compare: {', '.join(tasks)}.")
    named = list(dict.fromkeys(quality_of(each.rows).name for each in studies))
    if len(named) > 1:
        raise UserError(f"Studies of different qualities do not compare: {', '.join(named)}.")


def names(studies: Sequence[Compared]) -> list[str]:
    """Each study by its target, or by its own name where targets repeat."""
    targets = [each.rows.target for each in studies]
    if len(set(targets)) == len(targets):
        told = targets
    else:
        told = [f"{each.rows.target}, {each.rows.name}" for each in studies]
    pairs = zip(told, studies, strict=True)
    return [f"{name} (a simulation)" if each.simulated else name for name, each in pairs]


def latency_panels(studies: Sequence[Compared]) -> list[tuple[int, Panel]]:
    """Quality against latency in ms, with the same axes; studies without timing have none."""
    return _panels(studies, LATENCY_MS, lambda each: each.timed)


def size_panels(studies: Sequence[Compared]) -> list[tuple[int, Panel]]:
    """Quality against file size, with the same axes."""
    return _panels(studies, SIZE_BYTES, lambda each: has(each.reference, SIZE.name))


def _panels(
    studies: Sequence[Compared], x: Objective, has_it: Callable[[Compared], bool]
) -> list[tuple[int, Panel]]:
    known = [(number, each) for number, each in enumerate(studies) if has_it(each)]
    drawn = [
        panel(each.rows, each.front, each.validation, x, quality_of(each.rows)) for _, each in known
    ]
    return list(zip([number for number, _ in known], alike(drawn), strict=True))


def curves(studies: Sequence[Compared]) -> list[Curve]:
    """Every study's members by speed-up; without timing a curve has no points."""
    return [_curve(name, each) for name, each in zip(names(studies), studies, strict=True)]


def _curve(name: str, study: Compared) -> Curve:
    quality = quality_of(study.rows)
    found = [_point(row, study, quality) for row in study.front.members]
    points = tuple(point for point in found if point is not None)
    down = 1 if quality.direction == "minimize" else -1
    steps: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (-p.speedup, down * p.quality)):
        if not steps or down * point.quality < down * steps[-1][1]:
            if steps:
                steps.append((point.speedup, steps[-1][1]))
            steps.append((point.speedup, point.quality))
    return Curve(name, points, tuple(steps))


def _point(row: TrialRow, study: Compared, quality: Objective) -> Point | None:
    shown, base = study.figures(row)
    speedup = _speedup(shown, base)
    if speedup is None or shown is None or not has(shown, quality.name):
        return None
    return Point(row.number, speedup, shown[quality.name].value, shown[LATENCY_MS.name].value)


def _speedup(shown: Measurement | None, base: Measurement | None) -> float | None:
    """How many times faster, where that is known."""
    if shown is None or base is None or not has(shown, LATENCY_MS.name):
        return None
    if has(shown, "speedup"):
        return shown["speedup"].value
    latency = shown[LATENCY_MS.name].value
    return base[LATENCY_MS.name].value / latency if has(base, LATENCY_MS.name) and latency else None


def _smaller(shown: Measurement | None, base: Measurement | None) -> float | None:
    """How many times smaller, where that is known."""
    if shown is None or base is None or not (has(shown, SIZE.name) and has(base, SIZE.name)):
        return None
    return base[SIZE.name].value / shown[SIZE.name].value


def lines(studies: Sequence[Compared]) -> list[Line]:
    """The table."""
    return [_line(name, each) for name, each in zip(names(studies), studies, strict=True)]


def _line(name: str, study: Compared) -> Line:
    quality, base = quality_of(study.rows), study.reference
    timing = study.validation.timing
    return Line(
        name=name,
        study=study.rows.name,
        latencies=short(study.validation, study.front),
        quality=_told(base, quality.name),
        latency=_told(base, LATENCY_MS.name),
        size=_told(base, SIZE.name),
        within=tuple(_within(study, quality, drop) for drop in DROPS),
        hypervolume="" if study.front.share is None else f"{100 * study.front.share:.1f} %",
        trials=len(study.rows.complete()),
        members=len(study.front.members),
        floor=spread_words(timing.floor) if timing and timing.floor else "",
    )


def _told(found: Measurement | None, name: str) -> str:
    return words(found[name].value, found[name].metric.unit) if found and has(found, name) else ""


def _within(study: Compared, quality: Objective, drop: float) -> Within:
    kept = [row for row in study.front.members if _keeps(row, study, quality, drop)]

    def best(ratio: Callable[..., float | None], plain: str) -> str:
        found = [(ratio(*study.figures(row)) or 0.0, row.number) for row in kept]
        value, trial = max(found, default=(0.0, 0))
        if value <= 0:
            return ""
        told = times(value) if value >= 1.05 else f"{value:.2f}{TIMES}"
        return f"{told} {plain}, trial {trial}"

    return Within(best(_speedup, "faster"), best(_smaller, "smaller"))


def _keeps(row: TrialRow, study: Compared, quality: Objective, drop: float) -> bool:
    """Whether a member's quality lies within the drop; a share of it where it is no fraction."""
    shown, base = study.figures(row)
    if not (has(shown, quality.name) and has(base, quality.name)):
        return False
    assert shown is not None
    assert base is not None
    before, after = base[quality.name].value, shown[quality.name].value
    allowed = drop if quality.unit == "fraction" else drop * abs(before)
    loss = after - before if quality.direction == "minimize" else before - after
    return loss <= allowed + 1e-9
