"""How far outputs are from reference outputs, row by row, as plain arrays.

A divergence where rows are the scores of classes, else the squared difference as a share of how
much the reference varies. Knows no torch and no task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def distances(outputs: NDArray[Any], reference: NDArray[Any], *, scores: bool) -> Array:
    """The distance of each row, the last axis; of stacks of rows (..., rows, outputs) too."""
    return divergence(outputs, reference) if scores else departure(outputs, reference)


def divergence(outputs: NDArray[Any], reference: NDArray[Any]) -> Array:
    """The Kullback-Leibler divergence of the outputs' classes from the reference's, in nats."""
    expected, found = _log_softmax(reference), _log_softmax(outputs)
    return np.asarray(np.maximum((np.exp(expected) * (expected - found)).sum(-1), 0.0))


def departure(outputs: NDArray[Any], reference: NDArray[Any]) -> Array:
    """The mean squared difference of each row, over the reference's spread."""
    difference = outputs.astype(np.float64) - reference.astype(np.float64)
    return np.asarray(np.square(difference).mean(-1) / spread(reference))


def spread(reference: NDArray[Any]) -> float:
    """The variance over rows, the mean of all outputs; of a constant, the mean square, or 1."""
    rows = reference.astype(np.float64)
    return float(rows.var(axis=0).mean()) or float(np.square(rows).mean()) or 1.0


def _log_softmax(rows: NDArray[Any]) -> Array:
    wide = rows.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
