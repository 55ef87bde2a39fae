"""The small numeric parts, against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume
from scipy.stats import spearmanr
from sklearn.isotonic import IsotonicRegression

from search.front.volumes import gains, non_dominated
from search.sensitivity import ridge
from search.sensitivity.bisection import widest
from search.sensitivity.isotonic import Isotonic
from search.sensitivity.ranking import at_fixed_cost, rank_correlation

unit = st.floats(0, 1, allow_nan=False, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 50), unit), min_size=2, max_size=30, unique_by=lambda pair: pair[0]
    )
)
def test_isotonic_is_the_one_of_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    expected = IsotonicRegression().fit(x, y).predict(x).round(9)
    found = Isotonic(x, y)(x)
    assert (np.diff(found[np.argsort(x)]) >= -1e-9).all()
    # Pools are joined by straight lines here and are steps there: the same at their middles.
    for level in np.unique(expected):
        pool = expected == level
        assert Isotonic(x, y)(np.array([x[pool].mean()]))[0] == pytest.approx(level, abs=1e-5)


def test_left_out_predictions_are_those_of_fits_without_the_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ridge, "DETAIL", (0.1,))
    monkeypatch.setattr(ridge, "NOISE", (0.05,))
    random = np.random.default_rng(0)
    plain, detail = random.normal(size=(12, 2)), random.normal(size=(12, 20))
    targets = plain[:, 0] + 0.3 * detail[:, 3] + 2.0
    found = ridge.fit(plain, detail, targets)
    kernel = ridge.PLAIN * plain @ plain.T + 1.0 + 0.1 * detail @ detail.T
    mean, scale = targets.mean(), targets.std()
    for left in range(12):
        kept = np.arange(12) != left
        inside = kernel[np.ix_(kept, kept)] + 0.05 * np.eye(11)
        weights = np.linalg.solve(inside, (targets[kept] - mean) / scale)
        assert found.left_out[left] == pytest.approx(mean + scale * kernel[left, kept] @ weights)
    everything = np.linalg.solve(kernel + 0.05 * np.eye(12), (targets - mean) / scale)
    assert found(plain, detail @ found.detail) == pytest.approx(mean + scale * kernel @ everything)


@settings(max_examples=60, deadline=None)
@given(arrays(float, (7, 2), elements=unit), arrays(float, (4, 2), elements=unit))
def test_gains_are_differences_of_hypervolumes(front: np.ndarray, points: np.ndarray) -> None:
    one = np.ones(2)
    before = compute_hypervolume(front, one)
    after = [compute_hypervolume(np.vstack([front, point]), one) for point in points]
    assert gains(front, points) == pytest.approx(np.array(after) - before, abs=1e-6)


def test_gains_of_three_objectives_are_near() -> None:
    random = np.random.default_rng(1)
    front, points = random.random((12, 3)), random.random((20, 3))
    before = compute_hypervolume(front, np.ones(3))
    after = [compute_hypervolume(np.vstack([front, point]), np.ones(3)) for point in points]
    assert gains(front, points) == pytest.approx(np.array(after) - before, abs=0.01)


def test_what_little_a_good_front_leaves_is_told_apart() -> None:
    """Of a network that lost nothing at a tenth of the time and a sixtieth of the size."""
    random = np.random.default_rng(1)
    front = np.array([[0.0, 0.1, 0.016], [0.06, 0.13, 0.009], [0.1, 0.14, 0.008]])
    points = np.array([0.0, 0.05, 0.005]) + random.random((60, 3)) * [0.4, 0.2, 0.01]
    before = compute_hypervolume(front, np.ones(3))
    after = [compute_hypervolume(np.vstack([front, point]), np.ones(3)) for point in points]
    exact, found = np.array(after) - before, gains(front, points)
    assert spearmanr(exact, found).statistic > 0.93
    assert (found[exact > 1e-3] > 0).all()


@settings(max_examples=60, deadline=None)
@given(arrays(float, st.sampled_from([(9, 2), (9, 3)]), elements=st.sampled_from([0.0, 0.5, 1.0])))
def test_what_is_left_is_beaten_by_nobody_and_beats_the_rest(points: np.ndarray) -> None:
    kept = non_dominated(points)
    for place, point in enumerate(points):
        better = (points <= point).all(axis=1) & (points < point).any(axis=1)
        same_before = any((points[e] == point).all() and kept[e] for e in range(9) if e != place)
        assert kept[place] == (not better.any() and not same_before)


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(2)
    a, b = random.integers(0, 5, 40).astype(float), random.random(40)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_a_surrogate_that_only_knows_size_ranks_nothing_at_fixed_cost() -> None:
    random = np.random.default_rng(3)
    size = np.sort(random.random(60))
    own = random.normal(size=60) * 0.05
    damage = -size + own
    assert rank_correlation(-size, damage) > 0.95
    assert abs(at_fixed_cost(-size, damage, size[:, None])) < 0.15
    assert at_fixed_cost(-size + own, damage, size[:, None]) > 0.9


def test_bisection_goes_to_the_middle_of_the_widest_gap() -> None:
    measured = np.array([[0.0, 1.0], [0.1, 0.6], [0.9, 0.1], [5.0, 0.05]])
    hull = np.array([[np.nan, cost] for cost in (0.95, 0.7, 0.5, 0.34, 0.2)])
    assert widest(measured, hull, 0) == 3  # between costs 0.1 and 0.6
    assert widest(measured, hull[:1], 0) == 0  # whatever gap has one inside
    assert widest(measured, hull[:0], 0) is None


def test_gaps_beyond_the_box_do_not_count() -> None:
    measured = np.array([[0.0, 0.9], [0.2, 0.8], [7.0, 0.5], [9.0, 0.01]])
    hull = np.array([[np.nan, 0.85], [np.nan, 0.3], [np.nan, 0.72]])
    assert widest(measured, hull, 0) == 2
    assert widest(measured[2:], hull, 0) == 2  # nothing inside yet: between 0.5 and all there is
