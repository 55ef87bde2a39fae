"""What trials that looked alike at a rung came to in the end, and who of them cannot be beaten.

A rung's quality is no verdict: a narrow network starts slowly and ends well, and in the middle of a
schedule, at its highest learning rates, the best look poor. How much of a rung's differences is
left in the end is learned: among untrained policies that stay so, all; among those that train
long, hardly any, and then costs alone tell them apart. Quality, costs and length of training are
what a trial looks like; only those that train about as long are alike. Costs do not change from
rung to rung.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.stopping.dominance import Bools, Floats, dominates

MEMORY = 128  # the latest finished trials asked, at least; twice as many at most
NEIGHBOURS = 8
LEAST = 3  # finished trials that are alike, below which nothing is known
ALIKE = 0.5  # as far apart in the logarithm of their length trials are alike


class Endings:
    """Of one rung: looks at the rung, and the quality in the end, of trials seen to it.

    `quality` is the quality's place in a look, of which less is better; its last is the length.
    """

    def __init__(self, features: int, quality: int) -> None:
        self._quality = quality
        self._looks = np.empty((2 * MEMORY, features))
        self._ends = np.empty(2 * MEMORY)
        self._scale = np.ones(features)
        self._count = 0
        self.seen = 0  # in all

    def known(self, looks: Floats) -> Bools:
        """Of whom there is anything to expect by."""
        return np.asarray(self._alike(looks).sum(axis=1) >= LEAST)

    def add(self, look: Floats, end: float) -> None:
        """One trial that came to its end."""
        if self._count == 2 * MEMORY:
            self._looks[:MEMORY] = self._looks[MEMORY:]
            self._ends[:MEMORY] = self._ends[MEMORY:]
            self._count = MEMORY
        self._looks[self._count], self._ends[self._count] = look, end
        self._count += 1
        self.seen += 1
        spread = self._looks[: self._count].std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)

    def expected(self, looks: Floats) -> Floats:
        """The quality that each will end with; as it is where nothing is known."""
        own: Floats = looks[:, self._quality].copy()
        known = self.known(looks)
        if known.any():
            own[known] = self._lines(looks[known])[0]
        return own

    def ends(self, look: Floats) -> Floats:
        """What one may end with: as expected, by the chance that each of its like had."""
        expected, chances = self._lines(look[None])
        found: Floats = expected + chances[0][np.isfinite(chances[0])]
        return found

    def best(self, look: Floats) -> float:
        """The best that it can hope for: its like and one lucky as the luckiest of them.

        No end to hope where few that started as poorly, or few that started as well, were seen.
        """
        alike = self._alike(look[None])[0]
        qualities = self._looks[: self._count, self._quality][alike]
        as_poor = np.count_nonzero(qualities >= look[self._quality])
        as_well = np.count_nonzero(qualities <= look[self._quality])
        if min(as_poor, as_well) < LEAST:
            return -np.inf
        return float(min(self.expected(look[None])[0], self.ends(look).min()))

    def _lines(self, looks: Floats) -> tuple[Floats, Floats]:
        """By a line through the like of each: its end, and how far off each of them ended."""
        nearest, near = self._of_the_like(looks)
        count = near.sum(axis=1)
        then, ends = self._looks[nearest, self._quality], self._ends[nearest]
        middles = [(x * near).sum(axis=1) / count for x in (then, ends)]
        apart, ended = (
            (x - middle[:, None]) * near for x, middle in zip((then, ends), middles, strict=True)
        )
        spread = (apart**2).sum(axis=1)
        left = np.where(spread > 0, (apart * ended).sum(axis=1) / np.maximum(spread, 1e-300), 1.0)
        left = np.clip(left, 0.0, 1.0)
        expected = middles[1] + left * (looks[:, self._quality] - middles[0])
        chances = np.where(near, ended - left[:, None] * apart, np.nan)
        return expected, chances

    def _of_the_like(self, looks: Floats) -> tuple[NDArray[np.intp], Bools]:
        """The nearest of each, and which of them are alike in length."""
        near = min(NEIGHBOURS, self._count)
        apart = np.where(self._alike(looks), 0.0, np.inf)
        for axis, scale in enumerate(self._scale):
            own, other = looks[:, axis] / scale, self._looks[: self._count, axis] / scale
            apart += (own[:, None] - other[None, :]) ** 2
        nearest = np.argpartition(apart, near - 1, axis=1)[:, :near]
        return nearest, np.isfinite(np.take_along_axis(apart, nearest, axis=1))

    def _alike(self, looks: Floats) -> Bools:
        lengths = self._looks[: self._count, -1]
        return np.asarray(np.abs(looks[:, -1:] - lengths[None, :]) <= ALIKE)


class Unbeaten:
    """The finished points that no other dominates."""

    def __init__(self, objectives: int) -> None:
        self.points = np.empty((0, objectives))

    def add(self, point: Floats) -> None:
        """One more."""
        if not self.beats(point):
            kept: Bools = ~dominates(point[None], self.points)[0]
            self.points = np.vstack([self.points[kept], point])

    def beats(self, point: Floats) -> bool:
        """Whether one of them dominates a point."""
        return bool(dominates(self.points, point[None]).any())
