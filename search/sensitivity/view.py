"""A study seen at one moment, as all phases need it: what is measured and what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.front.volumes import non_dominated
from search.sensitivity.coding import Coding, Rows, Settings
from search.sensitivity.forecast import Forecast, damage_of, forecast
from search.sensitivity.past import Past
from search.sensitivity.ranking import at_fixed_cost
from search.sensitivity.surrogates import Surrogate
from search.sensitivity.work import Work
from search.study.problem import Box, Problem

Floats = NDArray[np.float64]
ENOUGH = 6  # measured settings, from which surrogates are told apart
LATEST = 96  # of them that are ranked


@dataclass(frozen=True)
class View:
    """What is known when a trial is asked."""

    coding: Coding
    work: Work
    problem: Problem
    past: Past
    reference: Mapping[str, float]  # the uncompressed model's values, as far as known
    surrogates: Sequence[Surrogate]
    surrogate: Surrogate  # the one of them that ranks best
    forecast: Forecast
    box: Box

    @cached_property
    def measured(self) -> Floats:
        """Scaled losses of all that is measured, or in flight and predicted.

        Of those that break a bound, where it is the quality's: they tell where the front ends.
        """
        scaled = self.box.scaled(self.past.losses[self._known])
        able = self.past.feasible[self._known]
        if self.problem.place is not None:
            able = able | (scaled[:, self.problem.place] >= 1)
        return scaled[able]

    @cached_property
    def reached(self) -> Floats:
        """Those within all bounds that no other beats."""
        able = self.box.scaled(self.past.losses[self._known & self.past.feasible])
        return able[non_dominated(able)]

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.past.losses).all(axis=1) & ~self.past.stopped

    @cached_property
    def front(self) -> Rows:
        """The settings of the measured front, or of whatever there is before one is."""
        past = self.past
        able = np.flatnonzero(past.done & past.feasible)
        able = able if len(able) else np.flatnonzero(past.done)
        if not len(able):
            return np.zeros((1, len(self.coding)), dtype=np.int16)
        losses = np.clip(self.box.scaled(past.losses[able]), 0.0, None)
        inside = (losses < 1).all(axis=1)
        if inside.any():
            able, losses = able[inside], losses[inside]
        return past.rows[able[non_dominated(losses)]]

    def untried(self, rows: Rows, epochs: float = 0.0) -> Rows:
        """Those of the settings that no trial had with so many epochs."""
        past = self.past
        tried = {row.tobytes() for row in past.rows[past.epochs == epochs]}
        kept = [row.tobytes() not in tried for row in rows]
        return rows[np.array(kept, dtype=bool)] if len(rows) else rows

    def scaled_costs(self, settings: Settings) -> Floats:
        """Expected costs that are objectives, in units of the box; NaN for the quality."""
        priced = self.forecast.priced(settings)
        empty = np.full(len(settings), np.nan)
        pairs = zip(self.problem.names, self.problem.signs(), strict=True)
        columns = [sign * priced[name] if name in priced else empty for name, sign in pairs]
        return self.box.scaled(np.stack(columns, axis=1))


def look(
    coding: Coding,
    work: Work,
    problem: Problem,
    past: Past,
    reference: Mapping[str, float],
    surrogates: Sequence[Surrogate],
) -> View:
    """The study as it is, through the surrogate that ranks its settings best."""
    box = problem.box(reference, past.losses[past.done])
    surrogate = choose(coding, problem, past, reference, surrogates)
    expected = forecast(coding, work, problem, past, reference, surrogate)
    past = _filled(past, coding, expected)
    return View(coding, work, problem, past, reference, surrogates, surrogate, expected, box)


def _filled(past: Past, coding: Coding, expected: Forecast) -> Past:
    """What is in flight with what is expected of it now, where nothing was when it was asked."""
    place = expected.problem.place
    if place is None or expected.quality is None:
        return past
    unknown = np.flatnonzero(past.in_flight & np.isnan(past.losses[:, place]))
    if not len(unknown):
        return past
    settings, losses = coding.settings(past.rows[unknown]), past.losses.copy()
    told = expected.losses(settings, past.epochs[unknown], expected.priced(settings))
    losses[unknown] = told[:, told.shape[1] // 2]
    return replace(past, losses=losses)


def choose(
    coding: Coding,
    problem: Problem,
    past: Past,
    reference: Mapping[str, float],
    surrogates: Sequence[Surrogate],
) -> Surrogate:
    """The surrogate of the best rank correlation at fixed cost; the first where none is better."""
    if len(surrogates) == 1 or problem.place is None:
        return surrogates[0]
    scores = correlations(coding, problem, past, reference, surrogates)
    best = max(scores.values(), default=0.0)
    return next((s for s in surrogates if scores.get(s.name) == best), surrogates[0])


def correlations(
    coding: Coding,
    problem: Problem,
    past: Past,
    reference: Mapping[str, float],
    surrogates: Sequence[Surrogate],
) -> dict[str, float]:
    """Of each surrogate the rank correlation with measured damage at fixed cost.

    Over those that were trained least, as far as training can be left out not at all.
    """
    least = past.epochs[past.done].min(initial=np.inf)
    chosen = np.flatnonzero(past.done & (past.epochs == least))[-LATEST:]
    costs = [past.costs[name][chosen] for name in problem.priced if name in problem.names]
    if len(chosen) < ENOUGH or problem.place is None or not costs:
        return {}
    damage = damage_of(problem, past.losses[chosen, problem.place], reference)
    settings = coding.settings(past.rows[chosen])
    table = np.stack(costs, axis=1)
    return {s.name: at_fixed_cost(s(settings), damage, table) for s in surrogates}
