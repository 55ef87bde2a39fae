"""From the prices of operators to a model's latency: fitted once on measured models of its kind.

latency = start + sum over operators of (its family's factor * its price + its own part)
          + bytes * what a byte takes

Operators that follow one another find caches as the one before left them, wait for each other and
are dispatched; weights that no cache holds come from farther away. What is not known of a model
beforehand is drawn to what is likely, as far as these widths say: factors to one pace, `start` to
the dispatch floor at that pace, the rest to nothing. Few models then move what they tell of, and
nothing else runs wild. Own parts go together where operators are alike, so that one which is in
none of the models has what those say of its like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot

import numpy as np

from evaluation.latency.parts import WITHIN_95, Array, Part, Priced, common

FAMILIES = ("float", "integer", "light")
NOISE = 0.01  # of a measured latency, at least
START = 0.3  # widths: of the floor,
FACTOR = {"float": 0.2, "integer": 0.2, "light": 1.0}  # of the pace, for a whole family: light
# operators wait for memory, and what stands between them and their neighbours is counted nowhere,
MEMORY = 0.1  # of the latency, for all bytes together


@dataclass(frozen=True)
class Measured:
    """What a file was found to take, and half of the 95 % interval of that as a share of it."""

    model: Priced
    milliseconds: float
    spread: float = 0.0

    @property
    def noise(self) -> float:
        """A standard deviation, as a share."""
        return hypot(NOISE, self.spread / WITHIN_95)


@dataclass(frozen=True)
class Pulled:
    """An operator of the models that were measured, and how hard they pull at its own part."""

    part: Part
    pull: float


@dataclass(frozen=True)
class Correction:
    """What was fitted, and how far a model that was not among those may depart from it."""

    start_ms: float
    megabyte_ms: float
    factors: Mapping[str, float]
    pulled: Sequence[Pulled]
    departure: float  # of a latency as a share: half of the 95 % interval of another model's
    first_ms: float | None = None  # what the first of these models took

    def latency_ms(self, model: Priced) -> float:
        """The latency of a model of such operators."""
        operators = sum(self.factors[part.family] * part.milliseconds for part in model.parts)
        own = sum(self._own(parts) for parts in _by_kind(model.parts).values())
        return self.start_ms + self.megabyte_ms * model.megabytes + operators + own

    def own_ms(self, part: Part) -> float:
        """What an operator takes beyond its family's factor times its price."""
        return self._own([part])

    def _own(self, parts: Sequence[Part]) -> float:
        known = self._known.get(parts[0].kind, [])
        if not known:
            return 0.0
        pulls = [each.pull for each in known]
        return float((common(parts, [each.part for each in known]) @ pulls).sum())

    @cached_property
    def _known(self) -> dict[str, list[Pulled]]:
        found: dict[str, list[Pulled]] = {}
        for each in self.pulled:
            found.setdefault(each.part.kind, []).append(each)
        return found


def _by_kind(parts: Sequence[Part]) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.kind, []).append(part)
    return found


PLAIN = Correction(0.0, 0.0, dict.fromkeys(FAMILIES, 1.0), (), 0.1)  # of what nobody measured


def fit(measured: Sequence[Measured], floor_ms: float = 0.0) -> Correction:
    """The likeliest correction under which the models take what was measured."""
    models = [each.model for each in measured]
    told = np.array([each.milliseconds for each in measured])
    pace = float(np.median(told / [floor_ms + model.total for model in models]))
    rows = np.array([_row(model) for model in models])
    likely = np.array([pace * floor_ms, 0.0, *(pace for _ in FAMILIES)])
    size = float(np.mean([model.megabytes for model in models])) or 1.0
    width = np.array(
        [
            START * pace * floor_ms,
            MEMORY * float(told.mean()) / size,
            *(FACTOR[family] * pace for family in FAMILIES),
        ]
    )
    parts = list({part.key: part for model in models for part in model.parts}.values())
    runs = _runs(models, parts)
    covariance = (rows * width**2) @ rows.T + pace**2 * _of_own_parts(runs, parts)
    noise = np.diag([each.noise**2 for each in measured])
    pull, missed = _pull(covariance / np.outer(told, told) + noise, 1 - rows @ likely / told)
    pull = pull / told
    start, memory, *factors = map(float, likely + width**2 * (rows.T @ pull))
    return Correction(
        start,
        memory,
        dict(zip(FAMILIES, factors, strict=True)),
        tuple(map(Pulled, parts, map(float, pace**2 * (runs.T @ pull)))),
        WITHIN_95 * float(np.sqrt(np.mean(missed**2))),
        float(told[0]),
    )


def _row(model: Priced) -> list[float]:
    """What the start, a byte and each factor count in a model."""
    families = dict.fromkeys(FAMILIES, 0.0)
    for part in model.parts:
        families[part.family] += part.milliseconds
    return [1.0, model.megabytes, *families.values()]


def _runs(models: Sequence[Priced], parts: Sequence[Part]) -> Array:
    """How often each model runs each operator."""
    places = {part.key: place for place, part in enumerate(parts)}
    runs = np.zeros((len(models), len(parts)))
    for row, model in zip(runs, models, strict=True):
        for part in model.parts:
            row[places[part.key]] += 1
    return runs


def _of_own_parts(runs: Array, parts: Sequence[Part]) -> Array:
    """The covariance of what models take by the own parts of their operators, at pace 1."""
    kinds: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        kinds.setdefault(part.kind, []).append(place)
    found = np.zeros((len(runs), len(runs)))
    for places in kinds.values():
        members = [parts[place] for place in places]
        found += runs[:, places] @ common(members, members) @ runs[:, places].T
    return found


def _pull(covariance: Array, missing: Array) -> tuple[Array, Array]:
    """How hard each model pulls, so that all give about what is missing from the likely.

    And by how much each would be missed by what the others alone tell.
    """
    certain = np.linalg.inv(covariance)
    pull = certain @ missing
    return pull, pull / np.diag(certain)
