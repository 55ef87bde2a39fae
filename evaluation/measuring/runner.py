"""What a runtime is to those who measure: it opens a file, and runs it on arrays.

A target writes one opener. It is plain data (a frozen dataclass at the top of a module that imports
little), for it travels to the process in which files are opened; nothing of a runtime is loaded
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Runner(Protocol):
    """A deployable file, open in its runtime."""

    def run(self, *args: Array) -> Array:
        """The first output for these inputs, any number of samples at once."""
        ...

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs of a batch size, as a caller of the runtime makes it."""
        ...


class Opener(Protocol):
    """Opens a file with what the target was configured with: threads, hints.

    One whose `threads` is 1 is timed on a single core. Raises UserError in one sentence for a file
    that is not there, or that the runtime refuses.
    """

    def __call__(self, path: Path) -> Runner:
        """The file, ready to run."""
        ...
