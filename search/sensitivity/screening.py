"""Of many settings the one that is worth measuring: the largest expected gain in hypervolume.

Settings expected to break a bound on something that is no objective come last, and where none
keeps all bounds, the one that breaks them least is taken. Bounds on objectives are the box's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from search.front.volumes import gains
from search.study.problem import Box, Problem

Floats = NDArray[np.float64]


def expected_gain(losses: Floats, front: Floats, box: Box) -> Floats:
    """The mean gain of each setting over the quantiles of its quality; a front is in the box."""
    scaled = box.scaled(losses)
    flat = scaled.reshape(-1, scaled.shape[-1])
    found: Floats = gains(front, flat).reshape(losses.shape[:2]).mean(axis=1)
    return found


def excess(problem: Problem, priced: Mapping[str, Floats], count: int) -> Floats:
    """By how much each setting is expected to break bounds on what is no objective."""
    found = np.zeros(count)
    for name in problem.outer:
        bound = problem.constraints[name]
        found += np.maximum(priced[name] - bound, 0.0) / max(abs(bound), 1e-12)
    return found


def outside(losses: Floats, box: Box) -> Floats:
    """How far each setting is from the box, by the middle of what is expected."""
    middle = box.scaled(losses[:, losses.shape[1] // 2])
    found: Floats = np.nan_to_num(np.maximum(middle - 1.0, 0.0)).sum(axis=1)
    return found


def short(losses: Floats, box: Box) -> Floats:
    """How far each setting is from what nothing beats, by the middle of what is expected."""
    found: Floats = np.nan_to_num(box.scaled(losses[:, losses.shape[1] // 2])).sum(axis=1)
    return found


def best(gain: Floats, broken: Floats, away: Floats, left: Floats) -> int:
    """The place of the setting to measure: where none gains, the nearest to gaining."""
    allowed = broken <= 0
    if allowed.any() and gain[allowed].max() > 0:
        return int(np.where(allowed, gain, -1.0).argmax())
    return int(np.lexsort((left, broken + away))[0])
