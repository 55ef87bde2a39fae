"""What samples of time tell of a few callables, and how far that can be relied on.

The run is a few blocks, each begun with freshly opened files: all are warmed up until their times
are stable, then take turns with the first, there and back (A B A C A, A C A B A, ...), so that
whatever disturbs the machine disturbs all of them. A sample is as many calls as take about a
millisecond, after some milliseconds of calls that do not count. The time is the mean of the blocks'
medians; the speed-up the same of the ratios to the first's samples just before and after. Outlier
rule: no sample is ever dropped, medians are what resists them. From block to block it is the mean,
for a machine that others share has two paces more often than outliers, and a median jumps between
them; where there are blocks enough, the lowest and the highest are left out of it.

A spread is half of the 95 % interval in which another run's figure is to be expected: Student's
factor times the blocks' standard deviation (the outermost drawn in, where they are left out of the
mean) times sqrt(2 / blocks), for both runs are a draw. It
covers what differs between blocks (memory, caches, neighbours that come and go), and not what
lasts longer than a run, as a machine that is hotter tomorrow. Percentiles and throughput are of
single calls in bursts, one file at a time, as a server sees it: p99 of few calls is about their
slowest.

Two columns of the same file (an A/A check) tell what all this misses: where they differ by more
than `BOUND`, or vary by more than that, the run is noisy; the departure is then added to every
spread. Who else runs on the machine is `quiet`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median, stdev

import numpy as np

from evaluation.measuring.sampling import Block, Call, Effort, take
from evaluation.target import Timing

BOUND = 0.05  # of the time, between the same file and itself
STUDENT = (math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # 95 %, by freedom
TRIMMED_FROM = 5  # blocks
QUICK = Effort(blocks=3, least=7, most=15, seconds=0.05, warm_seconds=0.1, burst_least=0)


def interleaved(calls: Sequence[Call], effort: Effort | None = None) -> list[Timing]:
    """The time of each callable here; speed-ups are against the first."""
    effort = effort or Effort()
    return timings([take(calls, effort) for _ in range(effort.blocks)])


def timings(blocks: Sequence[Block], batch: int = 1) -> list[Timing]:
    """What the blocks tell of each callable, of so many samples a call."""
    return [_timing(blocks, column, batch) for column in range(len(blocks[0].rounds))]


def departure(twin: Timing) -> float:
    """How far from equal a second copy of the reference was, or may have been."""
    return max(abs(twin.speedup - 1), twin.speedup_spread)


def widened(timing: Timing, by: float) -> Timing:
    """The same, said to be noisy, with room for a departure."""
    return replace(
        timing,
        spread_ms=timing.spread_ms + by * timing.median_ms,
        speedup_spread=timing.speedup_spread + by * timing.speedup,
        noisy=True,
    )


def noise(effort: Effort | None = None) -> float:
    """How far this machine is from quiet: the relative spread of timing a fixed computation.

    Up to 0.02 is fine; above 0.10, differences between candidates drown.
    """
    matrix = np.ones((160, 160), np.float32)
    twin = interleaved([lambda: matrix @ matrix] * 2, effort)[1]
    return max(twin.spread_ms / twin.median_ms, departure(twin))


def _timing(blocks: Sequence[Block], column: int, batch: int) -> Timing:
    times = [median(block.rounds[column]) for block in blocks]
    ratios = [1 / median(block.ratios(column)) for block in blocks]
    timing = Timing(*_figure(times), *_figure(ratios))
    calls = [call for block in blocks if block.bursts for call in block.bursts[column]]
    if not calls:
        return timing
    p50, p95, p99 = (float(p) for p in np.percentile(calls, (50, 95, 99)))
    throughput = batch * 1e3 * len(calls) / sum(calls)
    return replace(timing, p50_ms=p50, p95_ms=p95, p99_ms=p99, throughput=throughput)


def _figure(blocks: Sequence[float]) -> tuple[float, float]:
    """The trimmed mean, and half of the interval for another run's.

    The interval is Yuen's, of the deviation with the outermost drawn in to their neighbours.
    """
    found = sorted(blocks)
    cut = int(len(found) >= TRIMMED_FROM)
    kept = found[cut : len(found) - cut]
    if len(kept) < 2:  # nothing is known of a single block's spread
        return fmean(kept), math.inf
    drawn_in = [kept[0]] * cut + kept + [kept[-1]] * cut
    share = len(kept) / len(found)
    factor = STUDENT[min(len(kept), len(STUDENT)) - 1]
    return fmean(kept), factor * stdev(drawn_in) / share * math.sqrt(2 / len(found))
