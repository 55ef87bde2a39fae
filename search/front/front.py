"""The Pareto front of a study: its members, its hypervolume, its knee.

Works on rows alone. Dominance and hypervolume are Optuna's own; maximised objectives are negated
on the way there. Where the study states no reference point it is a little worse than the
uncompressed model: ten points more loss for a quality that is a fraction, a tenth more for
everything else. What lies beyond it in any objective adds nothing to the hypervolume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.measurement import COSTS
from search.study.ledger import Objective, StudyRows, TrialRow

POINTS = 0.1  # how much worse a quality that is a fraction may be
MARGIN = 0.1  # the same for every other objective, as a share of the uncompressed value
_COSTS = {metric.name for metric in COSTS}


@dataclass(frozen=True)
class Front:
    """Non-dominated trials, one for each point, best first by the first objective.

    A network that lost more quality than the reference point allows is none of them, small as it
    may be, unless all did.

    With constraints the members are the best of the feasible trials; where no trial is feasible
    they are the best of all, and each of them says that it is not.
    """

    members: tuple[TrialRow, ...]
    reference_point: tuple[float, ...] | None  # in the objectives' units
    hypervolume: float | None  # in the objectives' units; the share where a point is stated
    share: float | None  # of the box between zero and the reference point, where it has one
    knee: TrialRow | None

    def member(self, trial: int) -> TrialRow | None:
        """The member that is this trial."""
        return next((row for row in self.members if row.number == trial), None)


def find(rows: StudyRows) -> Front:
    """The front of all complete trials."""
    point = reference_point(rows)
    members = _of_use(non_dominated(rows.complete(), rows.objectives), rows.objectives, point)
    volume = hypervolume(members, rows.objectives, point)
    share = _share(volume, rows.objectives, point)
    return Front(
        members=tuple(members),
        reference_point=point,
        hypervolume=volume if rows.point is None else share,
        share=share,
        knee=knee(members, rows.objectives, point),
    )


def _of_use(
    members: list[TrialRow], objectives: Sequence[Objective], point: tuple[float, ...] | None
) -> list[TrialRow]:
    """Those whose quality is within the reference point; all where none is."""
    if point is None:
        return members
    qualities = [n for n, objective in enumerate(objectives) if objective.name not in _COSTS]
    worst = [_sign(objective) * value for objective, value in zip(objectives, point, strict=True)]
    kept = [
        row for row in members if all(losses(row, objectives)[n] <= worst[n] for n in qualities)
    ]
    return kept or members


def losses(row: TrialRow, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """A trial's objectives, each turned so that less is better."""
    values = row.values or ()
    return tuple(_sign(o) * v for o, v in zip(objectives, values, strict=True))


def non_dominated(trials: Sequence[TrialRow], objectives: Sequence[Objective]) -> list[TrialRow]:
    """The trials that no other beats; of trials at the very same point, the earliest."""
    candidates = [row for row in trials if row.feasible] or list(trials)
    if not candidates:
        return []
    import numpy as np
    from optuna.study._multi_objective import _is_pareto_front

    ordered = sorted(candidates, key=lambda row: row.number)
    points = np.array([losses(row, objectives) for row in ordered])
    on_front = _is_pareto_front(points, assume_unique_lexsorted=False)
    unique: dict[tuple[float, ...], TrialRow] = {}
    for row, kept in zip(ordered, on_front, strict=True):
        if kept:
            unique.setdefault(losses(row, objectives), row)
    return [unique[point] for point in sorted(unique)]


def dominates(a: TrialRow, b: TrialRow, objectives: Sequence[Objective]) -> bool:
    """Whether a is at least as good as b everywhere, and better somewhere."""
    pairs = list(zip(losses(a, objectives), losses(b, objectives), strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def reference_point(rows: StudyRows) -> tuple[float, ...] | None:
    """The point that hypervolumes are measured from, once the uncompressed model is measured.

    It is in the objectives' units: a stated share of the uncompressed model's size becomes bytes.
    """
    if rows.reference is None:
        return None
    values = [rows.reference[objective.name].value for objective in rows.objectives]
    if rows.point is not None:
        stated = zip(rows.objectives, rows.point, values, strict=True)
        return tuple(p * v if o.name in _COSTS else p for o, p, v in stated)
    return tuple(_worse(o, v) for o, v in zip(rows.objectives, values, strict=True))


def hypervolume(
    members: Sequence[TrialRow],
    objectives: Sequence[Objective],
    point: Sequence[float] | None,
) -> float | None:
    """The volume that the members dominate, up to the reference point, in the objectives' units."""
    if point is None:
        return None
    import numpy as np
    from optuna._hypervolume import compute_hypervolume

    bound = np.array([_sign(o) * p for o, p in zip(objectives, point, strict=True)])
    inside = [v for v in (losses(row, objectives) for row in members) if np.all(v <= bound)]
    return float(compute_hypervolume(np.array(inside), bound)) if inside else 0.0


def history(rows: StudyRows) -> list[tuple[int, float]]:
    """(trials told so far, hypervolume share) after each complete trial, in order of telling."""
    point = reference_point(rows)
    best: list[TrialRow] = []
    steps: list[tuple[int, float]] = []
    for done, row in enumerate(told(rows), start=1):
        if row.state == "complete":
            best = non_dominated([*best, row], rows.objectives)
            volume = hypervolume(best, rows.objectives, point)
            share = _share(volume, rows.objectives, point)
            if share is not None:
                steps.append((done, share))
    return steps


def told(rows: StudyRows) -> list[TrialRow]:
    """The finished trials, in the order in which they finished."""
    done = [row for row in rows.trials if row.state in ("complete", "failed", "stopped_early")]
    return sorted(done, key=lambda row: (_when(row), row.number))


def knee(
    members: Sequence[TrialRow],
    objectives: Sequence[Objective],
    point: Sequence[float] | None,
) -> TrialRow | None:
    """The member that alone dominates the largest box up to the reference point.

    The rule needs no weights: it does not change with the objectives' units.
    """
    if not members or point is None:
        return members[0] if members else None

    def box(row: TrialRow) -> float:
        bound = (_sign(o) * p for o, p in zip(objectives, point, strict=True))
        sides = (b - v for b, v in zip(bound, losses(row, objectives), strict=True))
        return math.prod(max(side, 0.0) for side in sides)

    return max(members, key=box)


def _when(row: TrialRow) -> float:
    moment = row.finished or row.started
    return moment.timestamp() if moment else 0.0


def _sign(objective: Objective) -> float:
    return 1.0 if objective.direction == "minimize" else -1.0


def _worse(objective: Objective, value: float) -> float:
    if objective.unit == "fraction":
        return min(max(value + _sign(objective) * POINTS, 0.0), 1.0)
    return value + _sign(objective) * MARGIN * abs(value)


def _share(
    volume: float | None, objectives: Sequence[Objective], point: Sequence[float] | None
) -> float | None:
    if volume is None or point is None:
        return None
    box = math.prod(
        p if o.direction == "minimize" else 1.0 - p for o, p in zip(objectives, point, strict=True)
    )
    bounded = all(o.direction == "minimize" or o.unit == "fraction" for o in objectives)
    return volume / box if bounded and box > 0 else None
