"""Ranks and crowding against independent implementations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from optuna.study._multi_objective import _fast_non_domination_rank

from search.stopping.dominance import beats, crowding, dominates, layers, standing

POINTS = st.integers(1, 4).flatmap(
    lambda axes: arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 24), st.just(axes)),
        elements=st.integers(0, 6).map(float),  # so that points tie
    )
)


def matrix(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = dominates(points, points)
    return found, found.sum(axis=0)


@given(POINTS)
@settings(max_examples=150)
def test_layers_are_the_non_dominated_ranks_of_optuna(points: np.ndarray) -> None:
    ranks = np.empty(len(points), dtype=int)
    for rank, front in enumerate(layers(*matrix(points))):
        ranks[front] = rank
    assert ranks.tolist() == _fast_non_domination_rank(points).tolist()


@given(POINTS, st.integers(0, 30))
@settings(max_examples=150)
def test_the_best_are_of_the_lowest_ranks_and_so_many(points: np.ndarray, count: int) -> None:
    found = standing(points, *matrix(points), count, count, np.zeros(len(points), dtype=bool))
    chosen = found.best
    ranks = _fast_non_domination_rank(points)
    assert chosen.sum() == min(count, len(points))
    if chosen.any() and not chosen.all():
        assert ranks[chosen].max() <= ranks[~chosen].min()
    last = ranks[chosen].max(initial=-1)
    assert found.hopeful.tolist() == (ranks <= last).tolist()


def _slow_crowding(points: np.ndarray) -> list[float]:
    """As in the paper, with loops."""
    room = [0.0] * len(points)
    for axis in range(points.shape[1]):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        low, high = points[order[0]][axis], points[order[-1]][axis]
        if low == high:
            continue
        room[order[0]] = room[order[-1]] = float("inf")
        for (before, here), (_, after) in pairwise(pairwise(order)):
            room[here] += (points[after][axis] - points[before][axis]) / (high - low)
    return room


@given(POINTS)
@settings(max_examples=100)
def test_crowding_is_as_in_the_paper(points: np.ndarray) -> None:
    np.testing.assert_allclose(crowding(points), _slow_crowding(points))


def test_within_a_rank_the_loneliest_go_first() -> None:
    points = np.array([[0.0, 1.0], [0.5, 0.5], [0.52, 0.48], [0.54, 0.46], [1.0, 0.0]])
    nobody = np.zeros(5, dtype=bool)
    found = standing(points, *matrix(points), 3, 0, nobody)
    assert found.best.tolist() == [True, True, False, False, True]


def test_a_rank_that_does_not_fit_has_room_for_those_first_who_went_on() -> None:
    points = np.array([[0.0, 1.0], [0.5, 0.5], [0.52, 0.48], [0.54, 0.46], [1.0, 0.0]])
    seated = np.array([False, False, True, True, False])
    found = standing(points, *matrix(points), 3, 0, seated)
    assert found.best[[2, 3]].all()
    assert found.best.sum() == 3


def test_whoever_breaks_no_bound_beats_whoever_does() -> None:
    points = np.array([[0.0, 0.0], [5.0, 5.0], [6.0, 6.0]])
    broken = np.array([0.5, 0.0, 0.0])
    found = beats(points, points, broken, broken)
    assert found.tolist() == [
        [False, False, False],
        [True, False, True],
        [True, False, False],
    ]
