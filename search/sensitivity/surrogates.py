"""Three guesses at the damage that a setting does, from what each of its choices does alone.

`Additive` sums tables: Gauss-Newton scores, or divergences measured one choice at a time.
`LogitAdditive` sums the changes of the outputs instead, and measures their distance from the
uncompressed outputs: it sees damage saturate. They know no network, and are right up to a factor
at best: whoever uses them fits a map to what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search.sensitivity.coding import Ones, Settings

Floats = NDArray[np.float64]
LEAST = 1e-9  # damage that counts as none
CHUNK = 512


class Surrogate(Protocol):
    """A guess at damage."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def __call__(self, settings: Settings) -> Floats:
        """The damage of each setting, above 0."""
        ...


@dataclass(frozen=True)
class Additive:
    """The sum of what each choice does alone."""

    name: str
    table: Floats  # an entry for each column of the settings

    def __call__(self, settings: Settings) -> Floats:
        """The damage of each setting, above 0."""
        return summed(self.table, settings) + LEAST


@dataclass(frozen=True)
class LogitAdditive:
    """The distance of summed changes of outputs, shrunk, from the uncompressed outputs."""

    name: str
    changes: NDArray[np.float32]  # [columns of the settings, rows x outputs]
    start: NDArray[np.float32]  # [rows, outputs] that the changes are changes of
    reference: NDArray[np.float32]  # [rows, outputs] uncompressed
    scores: bool  # whether outputs are scores of classes
    shrink: float = 0.7
    extra: Floats | None = None  # damage of choices whose changes are not known

    def __call__(self, settings: Settings) -> Floats:
        """The damage of each setting, above 0."""
        ones = settings.ones
        parts = [self._some(ones[at : at + CHUNK]) for at in range(0, len(ones), CHUNK)]
        found = np.concatenate(parts) if parts else np.zeros(0)
        return found + LEAST if self.extra is None else found + summed(self.extra, settings) + LEAST

    def _some(self, ones: Ones) -> Floats:
        moved = (ones @ self.changes).reshape(len(ones), *self.start.shape)
        outputs = self.start + self.shrink * moved
        return _distance(outputs, self.reference, self.scores)


def summed(table: Floats, settings: Settings) -> Floats:
    """The sum of a table's entries for the choices of each setting."""
    found: Floats = np.maximum((table[settings.columns] * settings.alive).sum(axis=1), 0.0)
    return found


def _distance(outputs: NDArray[np.float32], reference: NDArray[np.float32], scores: bool) -> Floats:
    """The mean over rows of the divergence of classes, or of the squared distance."""
    if not scores:
        spread = float(np.var(reference)) or 1.0
        squared: Floats = ((outputs - reference) ** 2).mean(axis=(1, 2), dtype=np.float64) / spread
        return squared
    before = _log_softmax(reference)
    gaps = before - _log_softmax(outputs)
    divergence = (np.exp(before) * gaps).sum(axis=-1)
    found: Floats = np.maximum(divergence.mean(axis=-1, dtype=np.float64), 0.0)
    return found


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found
