"""What the report says, apart from how it looks: plain data made from rows.

The headline chooses members by the validation split and only then tells their test figures, so
that the test split takes no part in any choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.measurement import Measurement, Value
from search.front.front import Front, dominates, hypervolume, non_dominated, reference_point
from search.front.front_files import Validation
from search.study.ledger import Objective, StudyRows, TrialRow
from search.views.figures import count, points, spread_words, times, title, words
from search.views.plot_data import quality_of

BUDGETS = (0.0, 0.01, 0.02)


@dataclass(frozen=True)
class Card:
    """One answer to: how much faster and smaller, at which loss?"""

    trial: int
    promise: str  # the loss allowed
    gains: tuple[tuple[str, str], ...]  # figure, what it is
    loss: str


@dataclass(frozen=True)
class _Gain:
    """How a figure stands to the uncompressed model's, above 1 where it is better."""

    ratio: float
    spread: float
    same: str
    better: str
    worse: str


@dataclass(frozen=True)
class Duel:
    """A uniform baseline, and the mixed policy that beats it in every objective, if one does."""

    name: str
    trial: int
    values: tuple[str, ...]
    winner: int | None
    margins: tuple[str, ...]
    on_front: bool


@dataclass(frozen=True)
class Failure:
    """A reason, and the trials that ended with it."""

    reason: str
    state: str
    trials: tuple[int, ...]


def cards(rows: StudyRows, front: Front, validation: Validation) -> list[Card]:
    """For each loss allowed, the fastest member that keeps it; none is shown twice."""
    exported = bool(validation.reference) and all(validation.of(m) for m in front.members)
    base = validation.reference if exported else rows.reference
    if base is None:
        return []
    quality = quality_of(rows)
    shown: dict[int, Card] = {}
    for budget in BUDGETS:
        row = _fastest(front, validation if exported else Validation(), base, quality, budget)
        if row is not None and row.number not in shown:
            found = (validation.of(row) if exported else row.measurement) or base
            shown[row.number] = _card(row, found, base, quality, budget)
    return list(shown.values())


def _fastest(
    front: Front, validation: Validation, base: Measurement, quality: Objective, budget: float
) -> TrialRow | None:
    allowed = budget if quality.unit == "fraction" else budget * abs(base[quality.name].value)

    def figures(row: TrialRow) -> Measurement | None:
        return validation.of(row) or row.measurement

    def keeps(row: TrialRow) -> bool:
        found = figures(row)
        return found is not None and _loss(found, base, quality) <= allowed + 1e-9

    def gain(row: TrialRow) -> float:
        found = figures(row)
        return math.prod(gain.ratio for gain in _ratios(found, base)) if found else 0.0

    kept = [row for row in front.members if keeps(row)]
    best = max(kept, key=gain, default=None)
    return best if best is not None and gain(best) > 1.05 else None


def _card(
    row: TrialRow, found: Measurement, base: Measurement, quality: Objective, budget: float
) -> Card:
    name = f"test_{quality.name}" if has(found, f"test_{quality.name}") else quality.name
    before, after = base[name], found[name]
    change = points(after.value - before.value) if quality.unit == "fraction" else ""
    loss = f"{title(name)} {words(before.value, quality.unit)} → {words(after.value, quality.unit)}"
    step = f"{100 * budget:g} " + ("point" if budget == 0.01 else "points")
    limit = step if quality.unit == "fraction" else f"{100 * budget:g} %"
    return Card(
        trial=row.number,
        promise="No loss on validation" if budget == 0 else f"At most {limit} lost on validation",
        gains=tuple(_in_words(gain) for gain in _ratios(found, base)),
        loss=f"{loss} ({change})" if change else loss,
    )


def _ratios(found: Measurement, base: Measurement) -> list[_Gain]:
    """How much faster and smaller."""
    gains = []
    if has(found, "speedup"):
        speedup = found["speedup"]
        gains.append(_Gain(speedup.value, speedup.spread or 0.0, "fast", "faster", "slower"))
    elif has(found, "latency_ms") and has(base, "latency_ms"):
        gains.append(_gain(found["latency_ms"], base["latency_ms"], "fast", "faster", "slower"))
    if has(found, "size_bytes") and has(base, "size_bytes"):
        gains.append(_gain(found["size_bytes"], base["size_bytes"], "large", "smaller", "larger"))
    return gains


def _gain(found: Value, base: Value, *said: str) -> _Gain:
    ratio = base.value / found.value
    parts = [(value.spread or 0.0) / value.value for value in (found, base)]
    return _Gain(ratio, ratio * math.hypot(*parts), *said)


def _in_words(gain: _Gain) -> tuple[str, str]:
    """A figure and what it is; two digits behind the point where one would say 1.0."""
    if abs(gain.ratio - 1) <= max(gain.spread, 0.005):
        return times(1.0), f"as {gain.same}"
    ratio, what = gain.ratio, gain.better
    if ratio < 1:
        ratio, what = 1 / ratio, gain.worse
    return (words(ratio, "ratio") if times(ratio) == times(1.0) else times(ratio)), what


def _loss(found: Measurement, base: Measurement, quality: Objective) -> float:
    sign = 1 if quality.direction == "minimize" else -1
    return sign * (found[quality.name].value - base[quality.name].value)


def has(measurement: Measurement | None, name: str) -> bool:
    """Whether a value of that name was measured."""
    return any(v.metric.name == name for v in (measurement.values if measurement else ()))


def duels(rows: StudyRows, front: Front) -> list[Duel]:
    """Every uniform baseline against the mixed policies, by the search's own figures."""
    mixed = [row for row in rows.complete() if row.baseline is None]
    uniform = [row for row in rows.complete() if row.baseline not in (None, "fp32")]
    return [_duel(row, mixed, rows, front) for row in uniform]


def _duel(row: TrialRow, mixed: Sequence[TrialRow], rows: StudyRows, front: Front) -> Duel:
    winners = [other for other in mixed if dominates(other, row, rows.objectives)]
    on_front = [other for other in winners if front.member(other.number)]
    winner = next(iter(on_front or winners), None)
    pairs = list(zip(rows.objectives, row.values or (), strict=True))
    return Duel(
        name=row.baseline or "",
        trial=row.number,
        values=tuple(words(value, o.unit) for o, value in pairs),
        winner=winner.number if winner else None,
        margins=tuple(
            _margin(o, value, better)
            for (o, value), better in zip(pairs, winner.values if winner else (), strict=False)
        )
        if winner and winner.values
        else (),
        on_front=front.member(row.number) is not None,
    )


def _margin(objective: Objective, value: float, better: float) -> str:
    if better == value:
        return "the same"
    if objective.unit == "fraction":
        return points(better - value)
    return f"{100 * (better / value - 1):+.0f} %" if value else words(better, objective.unit)


def verdict(rows: StudyRows, found: Sequence[Duel]) -> str:
    """One sentence: do mixed policies beat the uniform ones?"""
    early = sum(row.baseline is not None and row.state == "stopped_early" for row in rows.trials)
    if not found and not early:
        return "The study holds no uniform baselines to compare with."
    stopped = f"{early} stopped early, for the reasons given below."
    if not found:
        return f"No uniform baseline ended in full; {stopped}"
    beaten = sum(duel.winner is not None for duel in found)
    if beaten == len(found):
        ended = " that ended in full" if early else ""
        count = f"({len(found)})"
        text = f"Yes: every uniform baseline{ended} {count} loses to a mixed policy in everything."
    elif beaten:
        text = (
            f"Mostly: {beaten} of {len(found)} uniform baselines lose to a mixed policy "
            "in every objective at once."
        )
        if beaten * 2 < len(found):
            text = text.replace("Mostly", "In part")
    else:
        text = "Not yet: no mixed policy beats a uniform baseline in every objective at once."
    if early:
        text = f"{text} Of the others {stopped}"
    share = _uniform_share(rows)
    if share is None:
        return text
    return f"{text} The uniform ones alone reach {share} of the whole hypervolume."


def _uniform_share(rows: StudyRows) -> str | None:
    """How much of the whole hypervolume the uniform baselines reach without the mixed policies."""
    point = reference_point(rows)
    uniform = [row for row in rows.complete() if row.baseline is not None]

    def volume(trials: Sequence[TrialRow]) -> float | None:
        return hypervolume(non_dominated(trials, rows.objectives), rows.objectives, point)

    alone, everything = volume(uniform), volume(rows.complete())
    if alone is None or not everything:
        return None
    return f"{100 * alone / everything:.0f} %"


def failures(rows: StudyRows) -> list[Failure]:
    """Failed and stopped trials by reason, the commonest first."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows.trials:
        if row.state in ("failed", "stopped_early"):
            key = (row.reason or "no reason given", row.state.replace("_", " "))
            groups.setdefault(key, []).append(row.number)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [Failure(reason, state, tuple(trials)) for (reason, state), trials in ordered]


def departure(search: Value, exported: Value) -> str:
    """How an exported figure departs from the search's: '' where within both spreads."""
    gap = abs(search.value - exported.value)
    allowed = 2 * math.hypot(search.spread or 0.0, exported.spread or 0.0)
    if gap <= max(allowed, 0.02 * abs(search.value)):
        return ""
    return f"the search said {spread_words(search)}"


def summary(rows: StudyRows, front: Front) -> str:
    """The study in one line."""
    states = [row.state for row in rows.trials]
    parts = [count(len(rows.complete()), "complete trial"), f"{len(front.members)} on the front"]
    if states.count("failed"):
        parts.append(f"{states.count('failed')} failed")
    if states.count("stopped_early"):
        parts.append(f"{states.count('stopped_early')} stopped early")
    return ", ".join(parts)
