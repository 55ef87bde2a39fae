"""Trials that others are to be compared with, and that take long: they wait for one another.

Knows who waits and who went on; how much each may add is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MUCH = 0.1  # of the front's hypervolume, for which one goes on before the front is there
PATIENCE = 100  # trials that ended, after which one goes on for less


@dataclass
class Compared:
    """Those of a study, by number."""

    _waiting: set[int] = field(default_factory=set)
    _going: set[int] = field(default_factory=set)

    def __contains__(self, trial: int) -> bool:
        return trial in self._waiting

    def hold(self, trial: int) -> None:
        """Let one wait."""
        self._waiting.add(trial)

    def goes(self, trial: int) -> bool:
        """Whether one need wait no more."""
        return trial in self._going

    def drop(self, trial: int) -> None:
        """One that ended."""
        self._waiting.discard(trial)
        self._going.discard(trial)

    def waiting(self) -> list[int]:
        """Who waits."""
        return sorted(self._waiting)

    def release(self, hope: Callable[[int], float], ended: int, *, everybody: bool) -> list[int]:
        """Who goes on now: the most hopeful, one after another; or everybody.

        Those who come after may have nothing left to add.
        """
        found = sorted(self._waiting, key=lambda trial: (-hope(trial), trial))
        if not everybody:
            enough = MUCH if ended < PATIENCE else 0.0
            free = found and not self._going and hope(found[0]) >= enough
            found = found[:1] if free else []
        self._waiting -= set(found)
        self._going |= set(found)
        return found
