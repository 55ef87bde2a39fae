"""What finished trials gained from a rung to the end, and who of them cannot be beaten.

A rung's quality is no verdict: a narrow network starts slowly and ends well. So a trial is judged
by what those that looked like it at that rung went on to gain: quality, costs and length of
training are what it looks like. Gains are of the quality alone, as costs do not change.
"""

from __future__ import annotations

import numpy as np

from search.stopping.dominance import Bools, Floats, dominates

MEMORY = 128  # the latest finished trials asked, at least; twice as many at most
NEIGHBOURS = 8
LEAST = 4  # finished trials below which nothing is known


class Gains:
    """Of one rung: looks at the rung, and quality gained since, of trials seen to their end.

    `quality` is the quality's place in a look.
    """

    def __init__(self, features: int, quality: int) -> None:
        self._quality = quality
        self._looks = np.empty((2 * MEMORY, features))
        self._gains = np.empty(2 * MEMORY)
        self._scale = np.ones(features)
        self._count = 0
        self.seen = 0  # in all

    @property
    def known(self) -> bool:
        """Whether there is anything to expect by."""
        return self._count >= LEAST

    def add(self, look: Floats, gain: float) -> None:
        """One trial that came to its end."""
        if self._count == 2 * MEMORY:
            self._looks[:MEMORY] = self._looks[MEMORY:]
            self._gains[:MEMORY] = self._gains[MEMORY:]
            self._count = MEMORY
        self._looks[self._count], self._gains[self._count] = look, gain
        self._count += 1
        self.seen += 1
        spread = self._looks[: self._count].std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)

    def typical(self, looks: Floats) -> Floats:
        """What the like of each gained, as a rule; nothing where nothing is known."""
        if not self.known:
            return np.zeros(len(looks))
        found: Floats = np.median(self._of_the_like(looks), axis=1)
        return found

    def most(self, look: Floats) -> float:
        """The most that the like of it gained; no end where none started as poorly."""
        qualities = self._looks[: self._count, self._quality]
        as_poor = np.count_nonzero(qualities >= look[self._quality])
        if not self.known or as_poor < LEAST:
            return np.inf
        return max(0.0, float(self._of_the_like(look[None]).max()))

    def _of_the_like(self, looks: Floats) -> Floats:
        near = min(NEIGHBOURS, self._count)
        apart = np.zeros((len(looks), self._count))
        for axis, scale in enumerate(self._scale):
            own, other = looks[:, axis] / scale, self._looks[: self._count, axis] / scale
            apart += (own[:, None] - other[None, :]) ** 2
        nearest = np.argpartition(apart, near - 1, axis=1)[:, :near]
        found: Floats = self._gains[nearest]
        return found


class Unbeaten:
    """The finished points that no other dominates."""

    def __init__(self, objectives: int) -> None:
        self._points = np.empty((0, objectives))

    def add(self, point: Floats) -> None:
        """One more."""
        if not self.beats(point):
            kept: Bools = ~dominates(point[None], self._points)[0]
            self._points = np.vstack([self._points[kept], point])

    def beats(self, point: Floats) -> bool:
        """Whether one of them dominates a point."""
        return bool(dominates(self._points, point[None]).any())
