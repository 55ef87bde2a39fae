"""Takes samples of the time that callables take, in turns. Knows nothing of what they tell.

Imports as little as can be, for it runs in the process in which files are opened.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from statistics import median
from time import perf_counter

Call = Callable[[], object]
TIMED = "turns-2"  # how samples are taken and read: times of other ways are not taken for these
ABOUT = (0.6, 1.4)  # of the calls that make a sample
Turn = tuple[float, float, float]  # what a callable took; the first just before, and just after

_lengths = Random()  # of its own, so that nobody's draws depend on what was timed


@dataclass(frozen=True)
class Effort:
    """How long to time: so many blocks, each begun anew; all again, `runs` times, while noisy.

    In a block all take turns with the first for at least `least` rounds, then up to `most` while
    there are seconds; afterwards each is called alone, again and again, for a burst.
    """

    runs: int = 3
    blocks: int = 9
    least: int = 5
    most: int = 41
    seconds: float = 0.2  # of a block, for each callable
    sample_ms: float = 1.0
    warm_seconds: float = 0.2  # of a block, for each callable, at most
    burst_least: int = 5  # calls; 0: no bursts
    burst_seconds: float = 0.06


@dataclass(frozen=True)
class Block:
    """Milliseconds a call, for each callable: a mean each round, and every call of its burst.

    `before` and `after` are what the first callable took beside each of those means.
    """

    rounds: list[list[float]]
    before: list[list[float]]
    after: list[list[float]]
    bursts: list[list[float]]

    def ratios(self, column: int) -> list[float]:
        """What a callable took in each round, in the time of the first before it and after it.

        Two ratios rather than one to their mean: of two samples one is more often hit by whoever
        shares the core than a single one is, and the first would seem slower than its own copy.
        """
        firsts = (self.before[column], self.after[column])
        return [
            took / first
            for beside in firsts
            for took, first in zip(self.rounds[column], beside, strict=True)
        ]


def take(calls: Sequence[Call], effort: Effort) -> Block:
    """One block: warmed up, in turns, in bursts, with the garbage collector off."""
    with _no_collection():
        repeats = [_warm(call, effort) for call in calls]
        rounds = _rounds(calls, repeats, effort)
        bursts = [_burst(call, effort) for call in calls] if effort.burst_least else []
    columns = list(zip(*rounds, strict=True))
    took, before, after = (
        [[turn[part] for turn in column] for column in columns] for part in range(3)
    )
    return Block(took, before, after, bursts)


def _burst(call: Call, effort: Effort) -> list[float]:
    times: list[float] = []
    call()
    end = perf_counter() + effort.burst_seconds
    while len(times) < effort.burst_least or perf_counter() < end:
        times.append(_sample(call, 1))
    return times


def _rounds(calls: Sequence[Call], repeats: Sequence[int], effort: Effort) -> list[list[Turn]]:
    """In turns with the first, there and back (A B A C A, A C A B A, ...).

    A machine that others share changes its pace within milliseconds: what a callable took is held
    against what the first takes right beside it.
    """
    rounds: list[list[Turn]] = []
    pairs = list(zip(calls, repeats, strict=True))
    end = perf_counter() + effort.seconds * len(calls)
    while len(rounds) < effort.least or (len(rounds) < effort.most and perf_counter() < end):
        turn = -1 if len(rounds) % 2 else 1
        own, *turns = _round(pairs[0], pairs[1:][::turn])
        rounds.append([own, *turns[::turn]])
    return rounds


def _round(first: tuple[Call, int], others: Sequence[tuple[Call, int]]) -> list[Turn]:
    """Every callable's time, and the first's beside it."""
    firsts = [_led_sample(*first)]
    turns = []
    for call, repeats in others:
        took = _led_sample(call, repeats)
        firsts.append(_led_sample(*first))
        turns.append((took, firsts[-2], firsts[-1]))
    own = median(firsts)
    return [(own, own, own), *turns]


def _led_sample(call: Call, repeats: int) -> float:
    """A sample after a call that does not count, which finds another's data in the caches.

    Samples are of unlike length: in step with whoever shares the core, always the same callable
    would be the one that is interrupted.
    """
    call()
    return _sample(call, max(1, round(repeats * _lengths.uniform(*ABOUT))))


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
