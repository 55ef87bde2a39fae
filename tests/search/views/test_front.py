from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.front import front
from search.study.ledger import Objective, StudyRows, TrialRow
from tests.search.views import studies

MIN = Objective("error", "fraction", "minimize")
COST = Objective("size_bytes", "bytes", "minimize")
GAIN = Objective("throughput", "1/s", "maximize")


def trial(number: int, values: tuple[float, ...], feasible: bool = True) -> TrialRow:
    found = studies.failed(number)
    return replace(found, state="complete", values=values, feasible=feasible, reason=None)


def brute(points: list[tuple[float, ...]], signs: tuple[int, ...]) -> set[tuple[float, ...]]:
    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        pairs = [(s * x, s * y) for s, x, y in zip(signs, a, b, strict=True)]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return {p for p in points if not any(beats(q, p) for q in points)}


grid = st.tuples(*[st.integers(0, 6).map(float)] * 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(grid, min_size=1, max_size=30))
def test_members_are_those_that_no_other_beats(points: list[tuple[float, ...]]) -> None:
    rows = [trial(n, p) for n, p in enumerate(points)]
    members = front.non_dominated(rows, (MIN, COST, GAIN))
    assert {m.values for m in members} == brute(points, (1, 1, -1))
    assert len(members) == len({m.values for m in members})
    assert all(points.index(m.values) == m.number for m in members)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5).map(lambda v: (float(v),)), min_size=1, max_size=10))
def test_a_single_objective_has_its_best_as_front(points: list[tuple[float, ...]]) -> None:
    rows = [trial(n, p) for n, p in enumerate(points)]
    assert [m.values for m in front.non_dominated(rows, (MIN,))] == [min(points)]
    assert [m.values for m in front.non_dominated(rows, (GAIN,))] == [max(points)]


@settings(max_examples=40, deadline=None)
@given(st.lists(grid, max_size=12))
def test_hypervolume_counts_the_cells_of_a_grid(points: list[tuple[float, ...]]) -> None:
    bound = (5.0, 5.0, 1.0)  # the last objective is maximised
    rows = [trial(n, p) for n, p in enumerate(points)]
    members = front.non_dominated(rows, (MIN, COST, GAIN))
    cells = itertools.product(range(5), range(5), range(1, 6))
    counted = sum(
        any(p[0] <= a and p[1] <= b and p[2] >= c + 1 for p in points) for a, b, c in cells
    )
    assert front.hypervolume(members, (MIN, COST, GAIN), bound) == pytest.approx(counted)


def test_the_feasible_come_first_and_the_rest_only_where_none_is() -> None:
    good, cheap = trial(0, (0.1, 9.0)), trial(1, (0.5, 1.0), feasible=False)
    assert front.non_dominated([good, cheap], (MIN, COST)) == [good]
    bad = replace(good, feasible=False)
    assert front.non_dominated([bad, cheap], (MIN, COST)) == [bad, cheap]


def test_the_reference_point_is_a_little_worse_than_the_uncompressed_model() -> None:
    rows = studies.study(3)
    assert rows.reference is not None
    point = front.reference_point(rows)
    assert point is not None
    assert point[0] == pytest.approx(rows.reference["error"].value + 0.1)
    assert point[1] == pytest.approx(rows.reference["latency_ms"].value * 1.1)


def test_who_lost_too_much_quality_is_no_member_unless_all_did() -> None:
    rows = studies.study(1)
    assert rows.reference is not None
    error, *costs = (rows.reference[objective.name].value for objective in rows.objectives)
    fine = trial(0, (error + 0.05, *(0.5 * cost for cost in costs)))
    broken = trial(1, (error + 0.5, *(0.1 * cost for cost in costs)))
    assert front.find(replace(rows, trials=(fine, broken))).members == (fine,)
    assert front.find(replace(rows, trials=(broken,))).members == (broken,)


def test_the_knee_does_not_depend_on_units() -> None:
    rng = random.Random(0)
    points = [(rng.random() / 10, rng.random() * 1e6) for _ in range(20)]

    def knee(scale: float) -> int:
        trials = [trial(n, (e, s * scale)) for n, (e, s) in enumerate(points)]
        members = front.non_dominated(trials, (MIN, COST))
        found = front.knee(members, (MIN, COST), (0.1, 1e6 * scale))
        assert found is not None
        return found.number

    assert knee(1.0) == knee(1e-6)


def test_history_only_rises_and_ends_at_the_fronts_share() -> None:
    rows = studies.study(30)
    steps = front.history(rows)
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(front.find(rows).share)
    assert steps[-1][0] == 30
    assert len(steps) == len(rows.complete())


def test_a_study_without_complete_trials_has_an_empty_front() -> None:
    rows = StudyRows("s", "t", "x", studies.OBJECTIVES, None, (studies.failed(0),))
    found = front.find(rows)
    assert found.members == ()
    assert found.knee is None
    assert found.hypervolume is None


def test_a_stated_reference_point_gives_the_share_of_relative_values() -> None:
    rows = replace(studies.study(30), point=(0.5, 0.8, 0.6))
    assert rows.reference is not None
    names = ("latency_ms", "size_bytes")
    scale = [1.0, *(rows.reference[name].value for name in names)]
    found = front.find(rows)
    assert found.reference_point == pytest.approx((0.5, 0.8 * scale[1], 0.6 * scale[2]))
    relative = [np.array(row.values) / scale for row in found.members]
    steps = np.linspace(0, 1, 40)[:, None] * np.array([0.5, 0.8, 0.6])
    corners = np.array(list(itertools.product(*steps.T)))
    covered = np.zeros(len(corners), bool)
    for point in relative:
        covered |= (corners >= point).all(1)
    assert found.hypervolume == found.share
    assert found.hypervolume == pytest.approx(covered.mean(), abs=0.04)
    assert found.hypervolume > 0.1
