"""What a setting will measure: costs, and quality by a regression on a surrogate of its damage.

The logarithm of damage is regressed on the surrogate's, its square, training epochs, and, as far as
they earn it, single choices; a non-decreasing map turns it into the quality's own unit. Everything
is fitted anew from a bounded number of trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.sensitivity.coding import Coding, Settings
from search.sensitivity.costs import Cost, cost
from search.sensitivity.isotonic import Isotonic
from search.sensitivity.past import Past
from search.sensitivity.ridge import Ridge, fit
from search.sensitivity.surrogates import Surrogate
from search.sensitivity.work import Work
from search.study.problem import Problem

Floats = NDArray[np.float64]
FLOOR = 0.02  # damage below which differences hardly count, in the quality's unit
MOST = 128  # trials that the regression takes at most
FEW = 3  # trials without which quality is not predicted
QUANTILES = np.array([-1.2816, -0.5244, 0.0, 0.5244, 1.2816])  # the deciles 1, 3, 5, 7, 9
RECOVERED = 0.8  # what a first epoch is worth: the drop of the logarithm of damage, before any


@dataclass(frozen=True)
class Quality:
    """The quality's loss, from a surrogate's logarithm and epochs."""

    surrogate: Surrogate
    ridge: Ridge
    centre: float
    spread: float
    curve: Isotonic

    def logs(self, settings: Settings, epochs: Floats) -> Floats:
        """The expected logarithm of damage."""
        plain = _plain(np.log(self.surrogate(settings)), epochs, self.centre, self.spread)
        return self.ridge(plain, settings.climbed(self.ridge.detail)) - RECOVERED * np.log1p(epochs)

    def __call__(self, settings: Settings, epochs: Floats) -> Floats:
        """Losses, a column for each of the quantiles."""
        logs = self.logs(settings, epochs)
        return self.curve(logs[:, None] + self.ridge.spread * QUANTILES[None, :])


@dataclass(frozen=True)
class Forecast:
    """Everything that is expected of settings."""

    problem: Problem
    work: Work
    costs: Mapping[str, Cost]
    quality: Quality | None

    def priced(self, settings: Settings) -> dict[str, Floats]:
        """The costs, by name."""
        totals = self.work.totals(settings)
        return {name: found(totals, settings) for name, found in self.costs.items()}

    def losses(self, settings: Settings, epochs: Floats, priced: Mapping[str, Floats]) -> Floats:
        """Losses by setting, quantile of the quality and objective; NaN where not known."""
        found = np.full((len(settings), len(QUANTILES), len(self.problem.names)), np.nan)
        for place, (name, sign) in enumerate(
            zip(self.problem.names, self.problem.signs(), strict=True)
        ):
            if name in priced:
                found[:, :, place] = sign * priced[name][:, None]
            elif self.quality is not None:
                found[:, :, place] = self.quality(settings, epochs)
        return found


def forecast(
    coding: Coding,
    work: Work,
    problem: Problem,
    past: Past,
    reference: Mapping[str, float],
    surrogate: Surrogate,
) -> Forecast:
    """What the trials so far, and the surrogate, let expect."""
    costs = prices(coding, work, problem, past, reference)
    return Forecast(problem, work, costs, _quality(coding, problem, past, reference, surrogate))


def prices(
    coding: Coding, work: Work, problem: Problem, past: Past, reference: Mapping[str, float]
) -> dict[str, Cost]:
    """The costs alone."""

    def settings(places: NDArray[np.intp]) -> Settings:
        return coding.settings(past.rows[places])

    return {
        name: cost(name, reference.get(name), work, settings, past.costs[name])
        for name in problem.priced
    }


def damage_of(problem: Problem, losses: Floats, reference: Mapping[str, float]) -> Floats:
    """The quality given up, in its own unit; against the best seen where nothing else is known."""
    place = problem.place
    assert place is not None
    known = reference.get(problem.quality)
    sign = problem.signs()[place]
    best = float(np.nanmin(losses)) if known is None else sign * known
    return np.maximum(losses - best, 0.0) / problem.scale(reference)


def _quality(
    coding: Coding,
    problem: Problem,
    past: Past,
    reference: Mapping[str, float],
    surrogate: Surrogate,
) -> Quality | None:
    place = problem.place
    if place is None:
        return None
    if np.count_nonzero(past.done & np.isfinite(past.losses[:, place])) < FEW:
        return None
    chosen, epochs, losses = past.seen()
    damage = damage_of(problem, losses, reference)
    kept = _nearest(damage)
    chosen, epochs, losses, damage = chosen[kept], epochs[kept], losses[kept], damage[kept]
    settings = coding.settings(past.rows[chosen])
    logs = np.log(surrogate(settings))
    centre, spread = float(logs.mean()), max(float(logs.std()), 1e-3)
    targets = np.log(damage + FLOOR) + RECOVERED * np.log1p(epochs)
    ridge = fit(_plain(logs, epochs, centre, spread), settings.steps, targets)
    expected = ridge.left_out - RECOVERED * np.log1p(epochs)
    curve = Isotonic(expected, losses)
    return Quality(surrogate, ridge, centre, spread, curve)


def _nearest(damage: Floats) -> NDArray[np.intp]:
    """Places of at most so many: the latest half, and of the others an even choice by damage."""
    if len(damage) <= MOST:
        return np.arange(len(damage))
    late = np.arange(len(damage) - MOST // 2, len(damage))
    by_damage = np.argsort(damage[: len(damage) - MOST // 2], kind="stable")
    even = by_damage[np.linspace(0, len(by_damage) - 1, MOST // 2).astype(int)]
    return np.sort(np.concatenate([even, late]))


def _plain(logs: Floats, epochs: Floats, centre: float, spread: float) -> Floats:
    u, trained = (logs - centre) / spread, np.log1p(epochs)
    return np.column_stack([u, u**2, trained, trained * u])
