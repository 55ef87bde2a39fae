"""Takes samples of the time that callables take, in turns. Knows nothing of what they tell.

Imports as little as can be, for it runs in the process in which files are opened.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter

Call = Callable[[], object]
Rounds = list[list[float]]  # milliseconds a call: a row each round, a column each callable


@dataclass(frozen=True)
class Effort:
    """How long to time: at least `least` rounds, then up to `most` while there are seconds."""

    least: int = 31
    most: int = 201
    seconds: float = 2.0  # for each callable
    sample_ms: float = 1.0
    warm_seconds: float = 0.5  # for each callable, at most


def take(calls: Sequence[Call], effort: Effort) -> Rounds:
    """Warm all of them up, then let them take turns, with the garbage collector off."""
    with _no_collection():
        repeats = [_warm(call, effort) for call in calls]
        return _rounds(calls, repeats, effort)


def _rounds(calls: Sequence[Call], repeats: Sequence[int], effort: Effort) -> Rounds:
    rounds: Rounds = []
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
