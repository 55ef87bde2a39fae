"""The lower hull of damage and cost: for every price of damage the setting that is cheapest.

For each price, knob after knob takes the choice of the least damage plus price times cost, all
prices at once. Exact where both are sums over knobs, a good start where they are not. Knows
neither what damage nor what cost is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.sensitivity.coding import Coding, Rows, Settings

Floats = NDArray[np.float64]
PRICES = 96
RANGE = (1e-7, 1e2)  # of prices, in units of the worst damage
SWEEPS = 2


def hull(
    coding: Coding,
    damage: Callable[[Settings], Floats],
    costs: Callable[[Settings], Floats],  # a column a cost, in units of the uncompressed model's
) -> Rows:
    """Settings on the hull, from the one that keeps most; against each cost, and their mean."""
    ends = coding.settings(np.stack([np.zeros_like(coding.sizes), coding.sizes - 1]))
    worst = float(damage(ends).max())
    count = costs(ends).shape[1]
    mixes = [np.eye(count)[place] for place in range(count)]
    mixes += [np.full(count, 1 / count)] if count > 1 else []
    prices = np.geomspace(*RANGE, PRICES // max(1, len(mixes))) * worst
    weights = np.concatenate([price_of[None] * prices[:, None] for price_of in mixes])
    rows = _descend(coding, damage, costs, weights)
    kept = np.unique(coding.canonical(np.concatenate([ends.rows, rows])), axis=0)
    settings = coding.settings(kept)
    points = np.column_stack([damage(settings), costs(settings)])
    return kept[np.argsort(points[:, 0], kind="stable")]


def _descend(
    coding: Coding,
    damage: Callable[[Settings], Floats],
    costs: Callable[[Settings], Floats],
    weights: Floats,
) -> Rows:
    rows = np.zeros((len(weights), len(coding)), dtype=np.int16)
    for _ in range(SWEEPS):
        before = rows.copy()
        for knob, size in enumerate(coding.sizes):
            tried = np.repeat(rows, size, axis=0)
            tried[:, knob] = np.tile(np.arange(size), len(rows))
            settings = coding.settings(tried)
            paid = (costs(settings) * np.repeat(weights, size, axis=0)).sum(axis=1)
            total = (damage(settings) + paid).reshape(len(rows), size)
            rows[:, knob] = total.argmin(axis=1)
        if (rows == before).all():
            break
    return rows
