"""What a search is after: objectives as losses, the box in which they count, bounds to keep.

Losses are values turned so that less is better; scaled losses run from 0 at an ideal that nothing
beats to 1 at the reference point, or at a bound where that is tighter. The quality's ideal is the
uncompressed model's, or the best that was measured: to hope for more is to bet on chance. Knows no
study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.measurement import Measurement, Value
from search.study.ledger import Objective
from search.study.objectives import DROP

Floats = NDArray[np.float64]
POINTS = 0.1  # the reference point where none is given: worse by so many points of a fraction
MARGIN = 0.1  # and by this share of any other objective
THIN = 1e-9
LUCK = 2.0  # standard errors by which one may be better than the uncompressed model by chance


def stated(
    objectives: Sequence[Objective], quality: Objective, constraints: Mapping[str, float]
) -> Problem:
    """The problem of a study. A quality that is only bounded is sought too, after its objectives.

    Bounds on costs are predicted and kept; nothing but a front of qualities shows where one of
    quality lies.
    """
    bounded = quality.name in constraints or DROP in constraints
    beside = bounded and quality.name not in [objective.name for objective in objectives]
    return Problem((*objectives, *([quality] if beside else [])), quality.name, dict(constraints))


def box_of(
    objectives: tuple[Objective, ...],
    quality: str,
    constraints: Mapping[str, float],
    point: Sequence[float] | None,
    reference: Measurement,
) -> Box:
    """Where a study's hypervolume counts, by the uncompressed model and a stated point."""
    names = [objective.name for objective in objectives]
    stated_point = None if point is None else dict(zip(names, point, strict=True))
    problem = Problem(objectives, quality, constraints, stated_point)
    return problem.box_beside({name: reference[name] for name in names})


@dataclass(frozen=True)
class Box:
    """Where losses count: the ideal and the worst of each objective."""

    ideal: Floats
    worst: Floats

    def scaled(self, losses: Floats) -> Floats:
        """Losses in units of the box."""
        found: Floats = (losses - self.ideal) / np.maximum(self.worst - self.ideal, THIN)
        return found


@dataclass(frozen=True)
class Problem:
    """Objectives, the study's own first, the name of the quality among them, and bounds by name."""

    objectives: tuple[Objective, ...]
    quality: str
    constraints: Mapping[str, float] = field(default_factory=dict)
    # The quality's worst value, and of costs the worst share of the uncompressed model's.
    reference_point: Mapping[str, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives' names, in their order."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def place(self) -> int | None:
        """Which objective is the quality, if any is."""
        return self.names.index(self.quality) if self.quality in self.names else None

    @property
    def has_front(self) -> bool:
        """Whether quality is sought beside something that it costs."""
        return self.place is not None and len(self.objectives) > 1

    @property
    def priced(self) -> tuple[str, ...]:
        """The costs to predict: objectives and bounds other than of quality."""
        wanted = (*self.names, *self.constraints)
        return tuple(dict.fromkeys(n for n in wanted if n not in (self.quality, DROP)))

    @property
    def outer(self) -> tuple[str, ...]:
        """The bounded costs that are no objectives."""
        return tuple(name for name in self.priced if name not in self.names)

    def losses(self, values: Sequence[float]) -> Floats:
        """Values as losses."""
        return np.asarray(values, dtype=np.float64) * self.signs()

    def signs(self) -> Floats:
        """1 for each objective to minimise, -1 for the others."""
        return np.array([1.0 if o.direction == "minimize" else -1.0 for o in self.objectives])

    def values(self, losses: Floats) -> dict[str, float]:
        """One setting's losses as values by name."""
        pairs = zip(self.names, losses * self.signs(), strict=True)
        return {name: float(value) for name, value in pairs if np.isfinite(value)}

    def scale(self, reference: Mapping[str, float]) -> float:
        """The quality's own unit: 1 of a fraction, else the size of the uncompressed model's."""
        place = self.place
        if place is None or self.objectives[place].unit == "fraction":
            return 1.0
        return max(abs(reference.get(self.quality, 1.0)), THIN)

    def box(self, reference: Mapping[str, float], seen: Floats) -> Box:
        """The box, from the uncompressed model's values where they are known, else from losses."""
        worst, ideal = [], []
        for column, objective in enumerate(self.objectives):
            sign = 1.0 if objective.direction == "minimize" else -1.0
            known = reference.get(objective.name)
            losses = seen[:, column]
            unknown = float(losses.max()) if len(losses) else 0.0
            edge = unknown if known is None else self._edge(objective, sign, known)
            bound = self._bound(objective, sign, known)
            low = self._low(objective, sign, known)
            worst.append(min(edge, bound))
            ideal.append(min(low, float(losses.min(initial=np.inf)), worst[-1] - THIN))
        return Box(np.array(ideal), np.array(worst))

    def box_beside(self, reference: Mapping[str, Value]) -> Box:
        """The box by the uncompressed model alone; what chance explains is no better than ideal."""
        found = [reference[name] for name in self.names]
        reach = LUCK * np.array([value.spread or 0.0 for value in found])
        best = np.minimum(self.signs(), 0.0)  # 0 of what is minimised, 1 of a fraction
        endless = [o.unit != "fraction" and o.direction == "maximize" for o in self.objectives]
        best = np.where(endless, -np.inf, best)
        lucky = np.maximum(self.losses([value.value for value in found]) - reach, best)
        return self.box({value.metric.name: value.value for value in found}, lucky[None])

    def _low(self, objective: Objective, sign: float, known: float | None) -> float:
        if objective.name == self.quality and known is not None:
            return sign * known
        return -1.0 if objective.unit == "fraction" and sign < 0 else 0.0

    def _edge(self, objective: Objective, sign: float, known: float) -> float:
        given = (self.reference_point or {}).get(objective.name)
        if given is not None:
            return sign * (given if objective.name == self.quality else given * known)
        if objective.unit == "fraction":
            return sign * min(max(known + sign * POINTS, 0.0), 1.0)
        return sign * known + MARGIN * abs(known)

    def _bound(self, objective: Objective, sign: float, known: float | None) -> float:
        bounds = [np.inf]
        if objective.name in self.constraints:
            bounds.append(sign * self.constraints[objective.name])
        if objective.name == self.quality and DROP in self.constraints and known is not None:
            bounds.append(sign * known + self.constraints[DROP])
        return min(bounds)
