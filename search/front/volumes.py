"""How much hypervolume points would add to a front, thousands of points at once.

Losses are scaled so that the reference box is the unit cube and less is better. Exact for two
objectives; for more, by fixed quasi-random points in what is not dominated yet, most of them where
losses are small: of a good front little more than that is left.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS = 8192
DENSER = 2.0  # the power of an even draw that a loss is, so that small ones are told apart


def non_dominated(points: Floats) -> NDArray[np.bool_]:
    """Which points no other beats; of equal ones the first."""
    count = len(points)
    kept = np.ones(count, dtype=bool)
    order = np.lexsort(points.T[::-1])
    if points.shape[1] == 2 and count:
        heights = points[order, 1]
        kept[order[1:]] = heights[1:] < np.minimum.accumulate(heights)[:-1]
        return kept
    for place in order:
        if not kept[place]:
            continue
        beaten = np.all(points[place] <= points, axis=1)
        beaten[place] = False
        kept &= ~beaten
    return kept


def gains(front: Floats, points: Floats) -> Floats:
    """The volume of the unit cube that each point would add to what the front dominates."""
    inside = np.clip(points, 0.0, 1.0)
    if points.shape[1] == 1:
        best = min(1.0, float(front.min(initial=1.0)))
        return np.maximum(best - inside[:, 0], 0.0)
    return _two(front, inside) if points.shape[1] == 2 else _many(front, inside)


def _two(front: Floats, points: Floats) -> Floats:
    front = front[np.all(front < 1, axis=1)]
    front = np.clip(front[non_dominated(front)], 0.0, 1.0) if len(front) else front
    front = front[np.argsort(front[:, 0])]
    # Strips between the front's first coordinates, and how high each is free below.
    left = np.concatenate([[0.0], front[:, 0]])
    right = np.concatenate([front[:, 0], [1.0]])
    height = np.concatenate([[1.0], front[:, 1]])
    x, y = points[:, :1], points[:, 1:]
    widths = np.clip(right - np.maximum(left, x), 0.0, None)
    found: Floats = (widths * np.clip(height - y, 0.0, None)).sum(axis=1)
    return found


def _many(front: Floats, points: Floats) -> Floats:
    free = Free(points.shape[1])
    for point in front:
        free.take(point)
    return np.array([free.gain(point) for point in points], dtype=np.float64)


class Free:
    """What of the unit cube a growing front does not dominate, by fixed points of it."""

    def __init__(self, dimensions: int) -> None:
        self._samples, self._weights = _cube(dimensions)

    def take(self, point: Floats) -> None:
        """One more point of the front."""
        left = ~np.all(self._samples >= point, axis=1)
        self._samples, self._weights = self._samples[left], self._weights[left]

    @property
    def taken(self) -> float:
        """The volume that the front dominates."""
        return max(0.0, 1.0 - float(self._weights.sum()))

    def gain(self, point: Floats) -> float:
        """The volume that a point would add."""
        return float(np.all(self._samples >= point, axis=1) @ self._weights)


@cache
def _cube(dimensions: int) -> tuple[Floats, Floats]:
    """Fixed points of the unit cube, by an additive recurrence, and the volume of each."""
    root = 1.0
    for _ in range(40):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    steps = root ** -np.arange(1.0, dimensions + 1)
    even = (0.5 + np.outer(np.arange(1.0, POINTS + 1), steps)) % 1.0
    volumes = (DENSER * even ** (DENSER - 1)).prod(axis=1)
    return even**DENSER, volumes / volumes.sum()
