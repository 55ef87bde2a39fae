"""A file that is open in the other process, as something to be called here."""

from __future__ import annotations

import weakref
from pathlib import Path

from evaluation.measuring.child import Child, child_of
from evaluation.measuring.limits import Limits
from evaluation.measuring.runner import Array, Opener


class Opened:
    """Opened at once, again where the process had to be started anew, and closed when dropped."""

    def __init__(self, opener: Opener, path: Path, limits: Limits) -> None:
        self._opener, self._path, self._limits = opener, path.absolute(), limits
        self._open(child_of(opener, limits))

    def run(self, *args: Array) -> Array:
        """The first output."""
        child = self._child
        if not child.alive:
            child = self._open(child_of(self._opener, self._limits))
        answer: Array = child.ask(
            "run", self._number, args, limits=self._limits, about=f" running '{self._path}'"
        )
        return answer

    def _open(self, child: Child) -> Child:
        about = f" opening '{self._path}'"
        self._number: int = child.ask("open", self._path, limits=self._limits, about=about)
        self._child = child
        weakref.finalize(self, child.drop, self._number).atexit = False
        return child
