"""Figures of one run, stated in the time that the uncompressed model is known to take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.target import Timing
from search.front.timekeeping import stated

OWN = Timing(2.0, 0.5, 1.0, 0.01, 2.1, 2.4, 3.0, 480.0)
OTHER = Timing(1.0, 0.3, 2.1, 0.042, 1.1, 1.2, 1.5, 900.0, noisy=True)


def test_times_are_the_known_one_by_the_ratios() -> None:
    own, other = stated([OWN, OTHER], 1.0)
    assert (own.median_ms, own.spread_ms) == pytest.approx((1.0, 0.01))
    assert (other.median_ms, other.spread_ms) == pytest.approx((1 / 2.1, 1 / 2.1 * 0.02))
    assert (other.speedup, other.speedup_spread, other.noisy) == (2.1, 0.042, True)
    assert (other.p50_ms, other.p95_ms, other.p99_ms) == pytest.approx((0.55, 0.6, 0.75))
    assert other.throughput == pytest.approx(1800)


@given(st.floats(0.2, 5.0))
def test_the_pace_of_the_machine_in_that_run_leaves_no_trace(pace: float) -> None:
    def at(pace: float, timing: Timing) -> Timing:
        return replace(
            timing,
            median_ms=timing.median_ms * pace,
            p50_ms=(timing.p50_ms or 0) * pace,
            p95_ms=(timing.p95_ms or 0) * pace,
            p99_ms=(timing.p99_ms or 0) * pace,
            throughput=(timing.throughput or 0) / pace,
        )

    slow = stated([at(pace, OWN), at(pace, OTHER)], 1.0)[1]
    plain = stated([OWN, OTHER], 1.0)[1]
    assert slow.median_ms == plain.median_ms
    assert slow.spread_ms == plain.spread_ms
    assert slow.p99_ms == pytest.approx(plain.p99_ms)
    assert slow.throughput == pytest.approx(plain.throughput)


def test_what_was_not_taken_stays_away() -> None:
    only = stated([Timing(1.0, 0.1, 1.0, 0.1)], 2.0)[0]
    assert (only.p50_ms, only.p99_ms, only.throughput) == (None, None, None)
