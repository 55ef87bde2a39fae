"""Round values along an axis, with their words."""

from __future__ import annotations

import math

from search.views.figures import trimmed, words

# Ticks a power of ten, for axes that span at least so many times their beginning.
SUBS = ((12, (1, 2, 5)), (3, (1, 1.5, 2, 3, 5, 7)), (0, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)))


def ticks(limits: tuple[float, float], unit: str, log: bool) -> list[tuple[float, str]]:
    """Round values within the limits, with their words."""
    low, high = limits
    values: list[float] = []
    if log:
        subs = next(subs for least, subs in SUBS if high >= least * low)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [sub * 10.0**power for power in powers for sub in subs]
    if sum(low <= value <= high for value in values) < 2:  # linear, or too narrow a decade
        step = _round_step((high - low) / 7)
        values = [step * k for k in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return [(value, short(value, unit)) for value in values if low <= value <= high]


def short(value: float, unit: str) -> str:
    """A tick's text: as words, without needless zeros."""
    return trimmed(words(value, unit))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough)
