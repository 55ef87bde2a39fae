"""How well a surrogate ranks settings, plainly and at fixed cost.

Near the front damage follows size so closely that any surrogate that knows size ranks well; what
tells surrogates apart is the correlation of what is left of both rankings once cost is regressed
out of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's."""
    return _correlation(ranks(a), ranks(b))


def at_fixed_cost(a: Floats, b: Floats, costs: Floats) -> float:
    """Spearman's of what the costs (a column each) leave unexplained of both rankings."""
    if len(a) < 4:
        return 0.0
    columns = [ranks(column) / len(a) for column in np.atleast_2d(costs.T)]
    squares = [columns[0] ** 2] if len(a) > 2 * len(columns) + 4 else []
    design = np.stack([np.ones(len(a)), *columns, *squares], axis=1)
    left = [_residual(design, ranks(values)) for values in (a, b)]
    return _correlation(*left)


def ranks(values: Floats) -> Floats:
    """Places from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]


def _residual(design: Floats, values: Floats) -> Floats:
    weights, *_ = np.linalg.lstsq(design, values, rcond=None)
    found: Floats = values - design @ weights
    return found


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 * len(a) else 0.0
