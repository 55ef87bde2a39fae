"""Honest timing of a few callables against each other.

All are warmed up until their times are stable, then take turns, round after round (A B C A B C),
so that whatever disturbs the machine disturbs all of them. A sample is as many calls as take at
least a millisecond. The answer is the median; its spread is half of the 95 % confidence interval
of the median by order statistics. Outlier rule: no sample is ever dropped, the median and the
interval's ranks are what resists them. The speed-up is the median of the ratios within a round.
The garbage collector is off meanwhile. Who else runs on the machine is `quiet`'s business.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from evaluation.target import Timing

Call = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long to time: at least `least` rounds, then up to `most` while there are seconds."""

    least: int = 31
    most: int = 201
    seconds: float = 2.0  # for each callable
    sample_ms: float = 1.0
    warm_seconds: float = 0.5  # for each callable, at most


def interleaved(calls: Sequence[Call], effort: Effort | None = None) -> list[Timing]:
    """The time of each callable; speed-ups are against the first."""
    effort = effort or Effort()
    with _no_collection():
        repeats = [_warm(call, effort) for call in calls]
        rounds = _rounds(calls, repeats, effort)
    reference = [row[0] for row in rounds]
    return [_timing([row[i] for row in rounds], reference) for i in range(len(calls))]


def noise() -> float:
    """How far this machine is from quiet: the relative spread of timing a fixed computation.

    Up to 0.02 is fine; above 0.10, differences between candidates drown.
    """
    import numpy as np

    matrix = np.ones((160, 160), np.float32)
    timing = interleaved([lambda: matrix @ matrix] * 2)[1]
    return max(timing.spread_ms / timing.median_ms, abs(timing.speedup - 1), timing.speedup_spread)


def _rounds(calls: Sequence[Call], repeats: Sequence[int], effort: Effort) -> list[list[float]]:
    rounds: list[list[float]] = []
    end = perf_counter() + effort.seconds * len(calls)
    while len(rounds) < effort.least or (len(rounds) < effort.most and perf_counter() < end):
        rounds.append([_sample(call, n) for call, n in zip(calls, repeats, strict=True)])
    return rounds


def _sample(call: Call, repeats: int) -> float:
    """Milliseconds a call."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) * 1e3 / repeats


def _warm(call: Call, effort: Effort) -> int:
    """Run until two windows in a row agree within 3 %; the number of calls that make a sample."""
    end = perf_counter() + effort.warm_seconds
    once = max(_sample(call, 2), 1e-4)
    repeats = max(1, math.ceil(effort.sample_ms / once))
    before = math.inf
    while perf_counter() < end:
        now = median(_sample(call, repeats) for _ in range(5))
        if abs(now - before) <= 0.03 * now:
            return max(1, math.ceil(effort.sample_ms / now))
        before = now
    return repeats


def _timing(samples: Sequence[float], reference: Sequence[float]) -> Timing:
    middle, spread = _median(samples)
    ratio, ratio_spread = _median([r / s for r, s in zip(reference, samples, strict=True)])
    return Timing(middle, spread, ratio, ratio_spread)


def _median(samples: Sequence[float]) -> tuple[float, float]:
    """The median, and half of its 95 % interval: ranks n/2 -+ 0.98 sqrt(n), a binomial's."""
    ordered = sorted(samples)
    count = len(ordered)
    low = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    high = min(count - 1, math.ceil(count / 2 + 0.98 * math.sqrt(count)))
    return median(ordered), (ordered[high] - ordered[low]) / 2


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
