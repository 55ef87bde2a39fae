"""One rung: the latest trials to have reached it, and where each of them stands among the others.

Trials are compared by what they are expected to end with. Only the latest are kept, so that a
decision costs the same whether there were a hundred trials or a hundred thousand; one that waited
while so many others passed is let go. Knows nothing of what is expected, nor of higher rungs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search.stopping.dominance import Bools, Floats, Ints, beats, standing

MEMORY = 128  # the latest trials compared, at least; twice as many at most
ROUNDING = 1e-9

State = Literal["waits", "went_on", "stopped"]


@dataclass(frozen=True)
class Review:
    """Waiting trials of a rung that go on, and those that have no hope to."""

    good: list[int]
    hopeless: list[int]


class Rung:
    """Trials with their expected values, of which less is better."""

    def __init__(self, looks: int, objectives: int) -> None:
        room = 2 * MEMORY
        self._trials: Ints = np.empty(room, dtype=np.intp)
        self._looks = np.empty((room, looks))
        self._points = np.empty((room, objectives))
        self._broken = np.empty(room)
        self._waiting = np.zeros(room, dtype=bool)
        self._seated = np.zeros(room, dtype=bool)  # went on
        self._beats = np.zeros((room, room), dtype=bool)
        self._losses: Ints = np.zeros(room, dtype=np.intp)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def looks(self) -> Floats:
        """What each trial looked like here."""
        return self._looks[: self._count]

    def add(
        self, trial: int, look: Floats, point: Floats, broken: float, state: State
    ) -> list[int]:
        """Take a trial in; the waiting ones that make room for it."""
        gone = self._make_room() if self._count == len(self._trials) else []
        new = self._count
        self._count += 1
        self._trials[new], self._looks[new], self._points[new] = trial, look, point
        self._broken[new] = broken
        self._waiting[new], self._seated[new] = state == "waits", state == "went_on"
        everybody = slice(0, self._count)
        points, all_broken = self._points[everybody], self._broken[everybody]
        mine, own = self._points[new : new + 1], self._broken[new : new + 1]
        self._beats[new, everybody] = beats(mine, points, own, all_broken)[0]
        self._beats[everybody, new] = beats(points, mine, all_broken, own)[:, 0]
        self._losses[everybody] += self._beats[new, everybody]
        self._losses[new] = np.count_nonzero(self._beats[everybody, new])
        return gone

    def expect(self, points: Floats) -> None:
        """Compare by new expectations of everybody."""
        self._points[: self._count] = points
        self._compare()

    def review(self, keep: float, deviations: float) -> Review:
        """Who need wait no more.

        The best share goes on. Hopeless is who stands behind it by more than chance explains: a
        place among n is an estimate, with Wilson's interval of so many standard deviations.
        """
        n = self._count
        count = math.floor(keep * n + ROUNDING)
        hopeful = math.ceil(upper_share(keep, n, deviations) * n - ROUNDING)
        points, beats, losses = self._points[:n], self._beats[:n, :n], self._losses[:n]
        found = standing(points, beats, losses, count, hopeful, self._seated[:n])
        waiting = self._waiting[:n]
        good, hopeless = waiting & found.best, waiting & ~found.best & ~found.hopeful
        waiting &= ~(good | hopeless)
        self._seated[:n] |= good
        return Review(self._of(good), self._of(hopeless))

    def went_on(self, feature: int, value: float, reach: float) -> Floats:
        """The looks of those that went on and are alike in one feature."""
        near = np.abs(self.looks[:, feature] - value) <= reach
        return self.looks[near & self._seated[: self._count]]

    def seat(self, trial: int) -> None:
        """Let a trial go on."""
        here = self._trials[: self._count] == trial
        self._waiting[: self._count][here] = False
        self._seated[: self._count][here] = True

    def waiting(self) -> list[int]:
        """Everybody who waits."""
        return self._of(self._waiting[: self._count])

    def dismiss(self) -> list[int]:
        """Everybody who waits, who then waits no more."""
        found = self.waiting()
        self._waiting[:] = False
        return found

    def _of(self, chosen: Bools) -> list[int]:
        return [int(trial) for trial in self._trials[: self._count][chosen]]

    def _make_room(self) -> list[int]:
        old, kept = slice(0, self._count - MEMORY), slice(self._count - MEMORY, self._count)
        gone = [int(trial) for trial in self._trials[old][self._waiting[old]]]
        states = (self._waiting, self._seated)
        for values in (self._trials, self._looks, self._points, self._broken, *states):
            values[:MEMORY] = values[kept].copy()
        self._waiting[MEMORY:] = False
        self._count = MEMORY
        self._compare()
        return gone

    def _compare(self) -> None:
        n = self._count
        points, broken = self._points[:n], self._broken[:n]
        self._beats[:n, :n] = beats(points, points, broken, broken)
        self._losses[:n] = self._beats[:n, :n].sum(axis=0)


def upper_share(share: float, count: int, deviations: float) -> float:
    """The upper end of Wilson's interval of a share seen among so many."""
    square = deviations**2 / count
    middle = share + square / 2
    reach = deviations * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return min(1.0, (middle + reach) / (1 + square))
