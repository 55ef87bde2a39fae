"""Honest timing of a few callables against each other.

All are warmed up until their times are stable, then take turns, round after round (A B C A B C),
so that whatever disturbs the machine disturbs all of them. A sample is as many calls as take at
least a millisecond. The answer is the median; its spread is half of the 95 % confidence interval
of the median by order statistics. Outlier rule: no sample is ever dropped, the median and the
interval's ranks are what resists them. The speed-up is the median of the ratios within a round.
The garbage collector is off meanwhile. Who else runs on the machine is `quiet`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from evaluation.measuring.sampling import Call, Effort, Rounds, take
from evaluation.target import Timing


def interleaved(calls: Sequence[Call], effort: Effort | None = None) -> list[Timing]:
    """The time of each callable; speed-ups are against the first."""
    return timings(take(calls, effort or Effort()))


def timings(rounds: Rounds) -> list[Timing]:
    """What the rounds tell of each callable; speed-ups are against the first."""
    reference = [row[0] for row in rounds]
    return [_timing([row[i] for row in rounds], reference) for i in range(len(rounds[0]))]


def noise() -> float:
    """How far this machine is from quiet: the relative spread of timing a fixed computation.

    Up to 0.02 is fine; above 0.10, differences between candidates drown.
    """
    import numpy as np

    matrix = np.ones((160, 160), np.float32)
    timing = interleaved([lambda: matrix @ matrix] * 2)[1]
    return max(timing.spread_ms / timing.median_ms, abs(timing.speedup - 1), timing.speedup_spread)


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
