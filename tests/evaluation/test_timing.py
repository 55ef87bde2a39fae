"""Timing tells the slower from the faster, with an interval, and leaves the collector as it was."""

from __future__ import annotations

import gc
import random
from itertools import pairwise

import pytest

from evaluation.measuring import timing
from evaluation.measuring.timing import Effort, interleaved

QUICK = Effort(least=21, most=41, seconds=0.2, warm_seconds=0.1)


def spin(count: int) -> int:
    return sum(range(count))


def test_a_callable_with_twice_the_work_is_half_as_fast() -> None:
    one, two = interleaved([lambda: spin(8000), lambda: spin(16000)], QUICK)
    assert one.speedup == 1
    assert two.speedup == pytest.approx(0.5, abs=0.12)
    assert two.median_ms > one.median_ms > 0
    assert one.spread_ms > 0


def test_samples_take_turns() -> None:
    order: list[str] = []
    effort = Effort(least=5, most=5, sample_ms=0, warm_seconds=0)
    interleaved([lambda: order.append("a"), lambda: order.append("b")], effort)
    tail = order[-10:]
    assert all(left != right for left, right in pairwise(tail))


def test_the_interval_holds_the_true_median_about_19_times_in_20() -> None:
    chance = random.Random(0)
    hits = 0
    for _ in range(400):
        samples = sorted(chance.gauss(10, 1) for _ in range(51))
        middle, half = timing._median(samples)
        hits += abs(middle - 10) <= half
    assert 0.90 <= hits / 400 <= 1.0


def test_the_collector_is_off_meanwhile_and_on_again_after() -> None:
    seen: list[bool] = []
    interleaved([lambda: seen.append(gc.isenabled())], Effort(least=3, most=3, warm_seconds=0))
    assert not any(seen)
    assert gc.isenabled()


def test_noise_is_a_share() -> None:
    assert 0 <= timing.noise() < 10
