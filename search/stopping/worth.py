"""How much a trial would add to the front of those that finished, as a share of its hypervolume."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from search.front.volumes import Free
from search.stopping.dominance import Floats
from search.stopping.experience import Unbeaten
from search.study.problem import Box


class Worth:
    """Of points of which less is better, beside a front that grows; only what is in the box counts.

    The front is another's, who adds to it first.
    """

    def __init__(self, box: Box, front: Unbeaten) -> None:
        self._box = box
        self._front = front
        self._fill()

    def add(self, point: Floats) -> None:
        """One more that finished, and is on the front where nothing beats it."""
        if (point < self._box.ideal).any():  # better than was thought possible
            self._fill()
        else:
            self._free.take(self._box.scaled(point))

    def gain(self, point: Floats, place: int, ends: Floats) -> float:
        """What a point would add to the front, on average over its values in one place.

        What beats the box's ideal counts as the ideal.
        """
        points = np.tile(point, (len(ends), 1))
        points[:, place] = ends
        added = float(np.mean([self._free.gain(each) for each in self._box.scaled(points)]))
        if self._free.taken > 0:
            return added / self._free.taken
        return math.inf if added > 0 else 0.0

    def _fill(self) -> None:
        points = self._front.points
        ideal = np.minimum(self._box.ideal, points.min(axis=0, initial=np.inf))
        self._box = replace(self._box, ideal=ideal)
        self._free = Free(len(ideal))
        for point in self._box.scaled(points):
            self._free.take(point)
