"""The best non-decreasing step through points, by pooling neighbours that are out of order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Isotonic:
    """A non-decreasing map from x to y, straight between points and level beyond them."""

    def __init__(self, x: Floats, y: Floats) -> None:
        order = np.argsort(x, kind="stable")
        pools: list[tuple[float, float, int]] = []  # sums of x and of y, how many
        for a, b in zip(x[order], y[order], strict=True):
            pools.append((float(a), float(b), 1))
            while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
                last, before = pools.pop(), pools.pop()
                pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
        self._x = np.array([total / count for total, _, count in pools])
        self._y = np.array([total / count for _, total, count in pools])

    def __call__(self, x: Floats) -> Floats:
        """The map of each."""
        found: Floats = np.interp(x, self._x, self._y)
        return found


def _mean(pool: tuple[float, float, int]) -> float:
    return pool[1] / pool[2]
