"""Of many settings the one to measure."""

from __future__ import annotations

import numpy as np

from search.sensitivity import screening
from search.study.problem import Box

BOX = Box(np.zeros(2), np.ones(2))
LOSSES = np.array([[0.9, 0.9], [0.4, 0.5], [0.2, 1.5], [0.6, 0.1]])[:, None, :]


def chosen(gain: list[float], broken: list[float]) -> int:
    away, left = (f(LOSSES, BOX) for f in (screening.outside, screening.short))
    return screening.best(np.array(gain), np.array(broken), away, left)


def test_the_largest_gain_that_breaks_no_bound_is_chosen() -> None:
    assert chosen([0.1, 0.3, 0.9, 0.2], [0, 0, 1, 0]) == 1


def test_where_none_gains_the_nearest_to_gaining_is_chosen() -> None:
    assert chosen([0, 0, 0, 0], [0, 0, 0, 0]) == 3


def test_where_all_break_a_bound_the_one_that_breaks_it_least_is_chosen() -> None:
    assert chosen([1, 1, 1, 1], [0.5, 0.2, 0.1, 0.4]) == 1  # the third is outside of the box
