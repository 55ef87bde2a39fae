"""Who dominates whom among points of which less is better, and who is best of them.

By non-dominated rank, then by crowding distance, then by order. Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]


def dominates(a: Floats, b: Floats) -> Bools:
    """[i, j]: whether point i of `a` is nowhere worse than point j of `b`, and somewhere better."""
    not_worse = np.ones((len(a), len(b)), dtype=bool)
    better = np.zeros((len(a), len(b)), dtype=bool)
    for one, other in zip(a.T, b.T, strict=True):
        not_worse &= one[:, None] <= other[None, :]
        better |= one[:, None] < other[None, :]
    return not_worse & better


def beats(a: Floats, b: Floats, broken_a: Floats, broken_b: Floats) -> Bools:
    """The same under constraints: who breaks them less comes first, whatever the values."""
    less = broken_a[:, None] < broken_b[None, :]
    same = broken_a[:, None] == broken_b[None, :]
    return np.asarray(less | (same & dominates(a, b)))


def layers(beaten_by: Bools, losses: Ints) -> Iterator[Ints]:
    """The indices of each non-dominated rank in turn.

    `beaten_by[i, j]`: i beats j; `losses` counts of each point by how many it is beaten.
    """
    left = losses.copy()
    while len(front := (left == 0).nonzero()[0]):
        yield front
        left -= beaten_by[front].sum(axis=0)
        left[front] = -1


@dataclass(frozen=True)
class Standing:
    """Who is among the best, and who belongs to a rank that reaches into a larger share."""

    best: Bools
    hopeful: Bools


def standing(
    points: Floats, beaten_by: Bools, losses: Ints, best: int, hopeful: int, seated: Bools
) -> Standing:
    """The `best` by rank, then crowding; and every rank of the `hopeful`, whole.

    A rank that does not fit whole has room for those first who are `seated` already: crowding is
    never the same with one more, and would in time let everybody in.
    """
    found = Standing(np.zeros(len(points), dtype=bool), np.zeros(len(points), dtype=bool))
    above = 0
    for front in layers(beaten_by, losses):
        if above >= max(best, hopeful):
            break
        found.hopeful[front] = above < hopeful
        room = max(0, best - above)
        above += len(front)
        if 0 < room < len(front):
            lonely = np.argsort(-crowding(points[front]), kind="stable")
            front = front[lonely[np.argsort(~seated[front[lonely]], kind="stable")][:room]]
        found.best[front] = room > 0
    return found


def crowding(points: Floats) -> Floats:
    """Each point's room: the gap between its neighbours, as a share of the range, over all axes."""
    room = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        span = ordered[-1] - ordered[0]
        if span <= 0:
            continue
        gaps = np.full(len(points), np.inf)
        gaps[1:-1] = (ordered[2:] - ordered[:-2]) / span
        room[order] += gaps
    return room
