"""Which setting of a hull to measure next: halfway in the widest gap that measurements leave.

A gap lies between neighbours of the measured front, seen on the quality and one cost; its width
is the product of their differences in both, clipped to the box that counts, so that a bound or a
reference point draws the search to itself. Losses are scaled to that box.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.front.volumes import non_dominated

Floats = NDArray[np.float64]
LEAST = 1e-5  # of the box: a gap that is not worth a measurement


def widest(measured: Floats, hull: Floats, quality: int) -> int | None:
    """The place in the hull of the setting to measure, None where no gap has one inside.

    `measured` are scaled losses; `hull` the predicted ones of settings not measured yet, of which
    the quality is not read.
    """
    best: tuple[float, int] | None = None
    for cost in (place for place in range(measured.shape[1]) if place != quality):
        found = _against(measured[:, [quality, cost]], hull[:, cost])
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return None if best is None else best[1]


def _against(measured: Floats, costs: Floats) -> tuple[float, int] | None:
    """The widest gap on a plane of quality and cost, and the hull's setting for it."""
    points = np.clip(measured, 0.0, 1.0)
    front = _front(points)
    gaps = [
        (float((upper[0] - lower[0]) * (lower[1] - upper[1])), upper[1], lower[1])
        for upper, lower in pairwise(front)
    ]
    for width, low, high in sorted(((abs(w), a, b) for w, a, b in gaps), reverse=True):
        inside = np.flatnonzero((costs > low) & (costs < high))
        if width > LEAST and len(inside):
            between = points[(points[:, 1] > low) & (points[:, 1] < high), 1]
            seen = np.array([low, high, *between])
            apart = np.abs(costs[inside][:, None] - seen[None, :]).min(axis=1)
            return width, int(inside[apart.argmax()])
    return None


def _front(points: Floats) -> Floats:
    """The front by cost, from the dearest point whose quality is beyond the box, to the best.

    Where every quality is, the box's own best corner stands for what is still to be found.
    """
    inside = points[points[:, 0] < 1]
    front = inside[non_dominated(inside)] if len(inside) else np.array([[0.0, 1.0]])
    front = front[np.argsort(front[:, 1])]
    beyond = points[(points[:, 0] >= 1) & (points[:, 1] < front[0, 1])]
    return np.concatenate([beyond[[beyond[:, 1].argmax()]], front]) if len(beyond) else front
