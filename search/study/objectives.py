"""Objectives by name, and how far a measurement is from breaking each constraint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from compressors.errors import UserError, unknown
from evaluation.measurement import COSTS, LATENCY, Measurement, Metric
from search.study.ledger import Objective

QUALITY = "quality"  # stands for the task's own metric
DROP = "error_drop"
ROUNDING = 1e-9  # of a bound: 0.035 - 0.025 is just at 0.01


def objectives_of(names: Sequence[str], quality: Metric) -> tuple[Objective, ...]:
    """The objectives of those names; `quality` is the task's own metric, whatever its name."""
    metrics = {metric.name: metric for metric in (quality, *COSTS)}
    found: dict[str, Objective] = {}
    for name in names:
        metric = quality if name == QUALITY else metrics.get(name)
        if metric is None:
            raise UserError(unknown("objective", name, (QUALITY, *metrics)))
        found[metric.name] = Objective(metric.name, metric.unit, metric.direction)
    if not found:
        raise UserError("objectives cannot be empty; name at least one, such as quality.")
    return tuple(found.values())


def check_timing(asked: Iterable[str], target: str, untimed: str | None) -> None:
    """Refuse a latency as objective or constraint where the target cannot time files."""
    if untimed is not None and LATENCY.name in asked:
        raise UserError(
            f"{LATENCY.name} cannot be an objective or constraint on the target {target}, as "
            f"{untimed}; valid here: objectives=[quality,size_bytes], or another target."
        )


def check_point(point: Sequence[float] | None, objectives: Sequence[Objective]) -> None:
    """Refuse a reference point that does not fit the objectives, or that bounds no box."""
    if point is None:
        return
    names = [objective.name for objective in objectives]
    if len(point) != len(names) or not all(math.isfinite(p) and p > 0 for p in point):
        raise UserError(
            f"reference_point cannot be {list(point)}; valid: a number above 0 for each of "
            f"{', '.join(names)}, costs as shares of the uncompressed model's, or null."
        )
    for objective, bound in zip(objectives, point, strict=True):
        rising = objective.direction == "maximize"
        if rising and (objective.unit != "fraction" or bound >= 1):
            raise UserError(
                f"reference_point cannot hold {bound} for {objective.name}, which is maximised; "
                "valid: below 1 for a fraction, and null where it has no upper bound."
            )


def check_constraints(constraints: Mapping[str, float], quality: Metric) -> None:
    """Refuse bounds on what is not measured."""
    valid = (DROP, quality.name, *(metric.name for metric in COSTS))
    for name, bound in constraints.items():
        if name not in valid:
            raise UserError(unknown("constraint", name, valid))
        if not math.isfinite(bound):
            raise UserError(f"constraints.{name} cannot be {bound}; valid: a finite number.")


def margins(
    measurement: Measurement,
    reference: Measurement,
    constraints: Mapping[str, float],
    quality: Metric,
) -> dict[str, float]:
    """For each constraint how far it is broken (above 0) or kept, in units of its bound.

    Samplers add violations up, so bytes and shares of error have to be on one scale.
    """
    found = {}
    for name, bound in constraints.items():
        if name == DROP:
            sign = 1 if quality.direction == "minimize" else -1
            lost = sign * (measurement[quality.name].value - reference[quality.name].value)
            excess = lost - bound
        else:
            value = measurement[name]
            sign = 1 if value.metric.direction == "minimize" else -1
            excess = sign * (value.value - bound)
        broken = excess / (abs(bound) or 1.0)
        found[name] = 0.0 if abs(broken) < ROUNDING else broken
    return found
