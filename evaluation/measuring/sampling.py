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
    lead_ms: float = 4.0  # of calls before a sample that do not count
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
        turns = [Turns(call, effort) for call in calls]
        rounds = _rounds(turns, effort)
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


def _rounds(turns: Sequence[Turns], effort: Effort) -> list[list[Turn]]:
    """In turns with the first, there and back (A B A C A, A C A B A, ...).

    A machine that others share changes its pace within milliseconds: what a callable took is held
    against what the first takes right beside it.
    """
    rounds: list[list[Turn]] = []
    end = perf_counter() + effort.seconds * len(turns)
    while len(rounds) < effort.least or (len(rounds) < effort.most and perf_counter() < end):
        way = -1 if len(rounds) % 2 else 1
        own, *others = _round(turns[0], turns[1:][::way])
        rounds.append([own, *others[::way]])
    return rounds


def _round(first: Turns, others: Sequence[Turns]) -> list[Turn]:
    """Every callable's time, and the first's beside it."""
    firsts = [first.sample()]
    turns = []
    for other in others:
        took = other.sample()
        firsts.append(first.sample())
        turns.append((took, firsts[-2], firsts[-1]))
    own = median(firsts)
    return [(own, own, own), *turns]


class Turns:
    """A callable that takes turns with others, and how many calls make a sample of it."""

    def __init__(self, call: Call, effort: Effort) -> None:
        self._call = call
        took = _warm(call, effort)
        self._repeats = max(1, math.ceil(effort.sample_ms / took))
        self._leads = max(1, math.ceil(effort.lead_ms / took))

    def sample(self) -> float:
        """Milliseconds a call, after some that do not count.

        Those find another's data in the caches: whoever has fewer turns than the first would seem
        slower than it is. Samples are of unlike length: in step with whoever shares the core,
        always the same callable would be the one that is interrupted.
        """
        for _ in range(self._leads):
            self._call()
        return _sample(self._call, max(1, round(self._repeats * _lengths.uniform(*ABOUT))))


def _sample(call: Call, repeats: int) -> float:
    """Milliseconds a call."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) * 1e3 / repeats


def _warm(call: Call, effort: Effort) -> float:
    """Run until two windows in a row agree within 3 %; the milliseconds of a call."""
    end = perf_counter() + effort.warm_seconds
    now, before = max(_sample(call, 2), 1e-4), math.inf
    repeats = max(1, math.ceil(effort.sample_ms / now))
    while perf_counter() < end:
        now = max(median(_sample(call, repeats) for _ in range(5)), 1e-4)
        if abs(now - before) <= 0.03 * now:
            break
        before = now
    return now


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
