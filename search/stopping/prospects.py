"""What trials may add to the front of those that finished: by what is known, and at best.

Knows the finished ones and what they came to; what a rung's trials come to is told by its endings.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from search.stopping.dominance import Floats
from search.stopping.experience import Endings, Unbeaten
from search.stopping.reports import Report
from search.stopping.rung import MEMORY
from search.stopping.worth import Worth
from search.study.problem import Box

FINE = 0.25  # of final qualities' standard errors the quantile that is a difference: the good ones'
DOMINATED = "Dominated by a finished trial beyond its confidence interval"
HOPELESS = "Even at its best it would add next to nothing to the front"


class Prospects:
    """Of one study's trials; `quality` is the place of the one objective that rungs change."""

    def __init__(self, objectives: int, quality: int, deviations: float, least: float) -> None:
        self._objectives = objectives
        self._quality = quality
        self._deviations = deviations
        self._least = least
        self._unbeaten = Unbeaten(objectives)  # beyond their confidence intervals
        self._front = Unbeaten(objectives)
        self._worth: Worth | None = None
        self._errors: deque[float] = deque(maxlen=MEMORY)  # standard errors of final qualities
        self._grain = 0.0  # of expected qualities

    def within(self, box: Box) -> None:
        """Where hypervolume counts; until this is known any point that nothing beats adds to it.

        Of a single objective there is no front to add to.
        """
        if self._objectives > 1:
            self._worth = Worth(box, self._front)

    def finish(self, report: Report) -> None:
        """A trial came to its end."""
        self._errors.append(report.spreads[self._quality])
        self._grain = float(np.quantile(self._errors, FINE))
        if report.broken <= 0:
            self._unbeaten.add(self._bound(report, 1))
            self._front.add(self._bound(report, 0))
            if self._worth is not None:
                self._worth.add(self._bound(report, 0))

    def adds(self, report: Report, endings: Endings) -> bool:
        """Whether what a trial is expected to end with adds to the finished front."""
        look = self.look(report)[None]
        if report.broken > 0 or not endings.known(look)[0]:
            return False
        if self._worth is None:
            return not self._front.beats(self.expected(endings, look)[0])
        gain = self._worth.gain(self._bound(report, 0), self._quality, endings.ends(look[0]))
        return gain > 0 and gain >= self._least

    def doom(self, report: Report, endings: Endings) -> str | None:
        """Why even the best that a trial can hope for is not enough; None where it is."""
        if self.is_hopeless(report, endings):
            return HOPELESS
        return DOMINATED if self.is_dominated(report, endings) else None

    def is_hopeless(self, report: Report, endings: Endings) -> bool:
        """Whether the best that a trial can hope for adds next to nothing to the front."""
        return self.hope(report, endings) < self._least

    def hope(self, report: Report, endings: Endings) -> float:
        """What the best that a trial can hope for adds to the front, as a share of it."""
        if self._worth is None:
            return math.inf
        if report.broken > 0 and len(self._front.points):
            return 0.0  # bounds on costs stay broken, and others keep them
        best = endings.best(self.look(report))
        return self._worth.gain(self._bound(report, -1), self._quality, np.array([best]))

    def is_dominated(self, report: Report, endings: Endings) -> bool:
        """Whether a finished trial dominates the best that this one can hope for."""
        best = endings.best(self.look(report))
        if not math.isfinite(best):
            return False
        hope = self._bound(report, -1)
        hope[self._quality] += best - report.values[self._quality]
        return self._unbeaten.beats(hope)

    def look(self, report: Report) -> Floats:
        """What a trial is likened to finished ones by: its values, and how long it trains."""
        return np.array([*report.values, math.log1p(report.length)], dtype=float)

    def expected(self, endings: Endings, looks: Floats) -> Floats:
        """What trials will end with; qualities that chance alone tells apart are the same."""
        points = looks[:, :-1].copy()
        points[:, self._quality] = endings.expected(looks)
        if self._grain > 0:
            known = endings.known(looks)
            rounded = np.round(points[:, self._quality] / self._grain) * self._grain
            points[:, self._quality] = np.where(known, rounded, points[:, self._quality])
        return np.asarray(points)

    def _bound(self, report: Report, sign: int) -> Floats:
        """The worse (1) or better (-1) end of every value's confidence interval."""
        reach = sign * self._deviations * np.array(report.spreads, dtype=float)
        return np.array(report.values, dtype=float) + reach
