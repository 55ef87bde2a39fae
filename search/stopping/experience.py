"""What trials that looked alike at a rung came to in the end, and who of them cannot be beaten.

A rung's quality is no verdict: a narrow network starts slowly and ends well, and in the middle of a
schedule, at its highest learning rates, the best look poor. How much of a rung's differences is
left in the end is learned: among untrained policies that stay so, all; among those that train
long, hardly any, and then costs alone tell them apart. Quality, costs and length of training are
what a trial looks like. Costs do not change from rung to rung.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.stopping.dominance import Bools, Floats, dominates

MEMORY = 128  # the latest finished trials asked, at least; twice as many at most
NEIGHBOURS = 8
LEAST = 4  # finished trials below which nothing is known


class Endings:
    """Of one rung: looks at the rung, and the quality in the end, of trials seen to it.

    `quality` is the quality's place in a look; less of it is better.
    """

    def __init__(self, features: int, quality: int) -> None:
        self._quality = quality
        self._looks = np.empty((2 * MEMORY, features))
        self._ends = np.empty(2 * MEMORY)
        self._scale = np.ones(features)
        self._count = 0
        self.seen = 0  # in all

    @property
    def known(self) -> bool:
        """Whether there is anything to expect by."""
        return self._count >= LEAST

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
        own = looks[:, self._quality]
        return self._lines(looks)[0] if self.known else own.copy()

    def best(self, look: Floats) -> float:
        """The best that it can hope for: its like and one lucky as the luckiest of them.

        No end to hope where none that started as poorly was seen.
        """
        qualities = self._looks[: self._count, self._quality]
        as_poor = np.count_nonzero(qualities >= look[self._quality])
        if not self.known or as_poor < LEAST:
            return -np.inf
        expected, luck = self._lines(look[None])
        return float(expected[0] - max(0.0, luck[0]))

    def _lines(self, looks: Floats) -> tuple[Floats, Floats]:
        """By a line through the like of each: its end, and how far below the luckiest ended."""
        nearest = self._of_the_like(looks)
        then, ends = self._looks[nearest, self._quality], self._ends[nearest]
        apart, ended = (x - x.mean(axis=1, keepdims=True) for x in (then, ends))
        spread = (apart**2).sum(axis=1)
        left = np.where(spread > 0, (apart * ended).sum(axis=1) / np.maximum(spread, 1e-300), 1.0)
        left = np.clip(left, 0.0, 1.0)
        expected = ends.mean(axis=1) + left * (looks[:, self._quality] - then.mean(axis=1))
        luck = (left[:, None] * apart - ended).max(axis=1)
        return expected, luck

    def _of_the_like(self, looks: Floats) -> NDArray[np.intp]:
        near = min(NEIGHBOURS, self._count)
        apart = np.zeros((len(looks), self._count))
        for axis, scale in enumerate(self._scale):
            own, other = looks[:, axis] / scale, self._looks[: self._count, axis] / scale
            apart += (own[:, None] - other[None, :]) ** 2
        return np.argpartition(apart, near - 1, axis=1)[:, :near]


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
