"""Numbers as words for people: 312 kB, 0.41 ms, 1.33 %, 5.6x; never without their unit.

Knows units and names of metrics; knows nothing of tables, pages or pictures.
"""

from __future__ import annotations

import math
import re

from evaluation.measurement import Value

TIMES = "\N{MULTIPLICATION SIGN}"
_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_ENERGY = {"uJ": 1e-6, "mJ": 1e-3, "J": 1.0}
_TITLES = {
    "latency_ms": "latency",
    "p50_ms": "median of calls",
    "p95_ms": "95th percentile",
    "p99_ms": "99th percentile",
    "peak_memory_bytes": "peak memory",
    "size_bytes": "file size",
    "parameters": "parameters",
    "macs": "MACs",
    "activation_bytes": "activation memory",
    "energy_uj": "modelled energy",
    "measured_energy_mj": "measured energy",
    "speedup": "speed-up",
}


def words(value: float, unit: str) -> str:
    """A value with its unit, at a precision that people read."""
    if not math.isfinite(value):
        return str(value)
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    if unit == "ratio":
        return f"{_digits(value)}{TIMES}"
    if unit == "bytes":
        return _scaled(value, "B")
    if unit in _ENERGY:
        return _joules(value * _ENERGY[unit])
    if unit == "count":
        return _scaled(value, "").strip()
    return f"{_digits(value)} {unit}".strip()


def spread_words(value: Value) -> str:
    """A value, its spread where it has one, and its unit."""
    text = words(value.value, value.metric.unit)
    if not value.spread:
        return text
    return f"{text} ± {margin(value.spread, value.metric.unit)}"


def margin(spread: float, unit: str) -> str:
    """A spread with its unit, to two digits: more would say nothing."""
    if spread == 0:
        return words(0.0, unit)
    power = 10.0 ** (math.floor(math.log10(abs(spread))) - 1)
    return trimmed(words(round(spread / power) * power, unit))


def trimmed(text: str) -> str:
    """A number's words without needless zeros behind the point."""
    return re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text).replace(". ", " ").removesuffix(".")


def title(name: str) -> str:
    """A metric's name as people say it."""
    if name.startswith("test_"):
        return f"test {title(name[5:])}"
    return _TITLES.get(name, name.replace("_", " "))


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds; the two largest of them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def points(difference: float) -> str:
    """A difference of two fractions, in percentage points, with its sign."""
    rounded = round(100 * difference, 2)
    return "±0 points" if rounded == 0 else f"{rounded:+.2f} points"


def times(ratio: float) -> str:
    """A ratio as people say it: 4.3×, 12×."""
    return (f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}") + TIMES


def count(number: int, noun: str) -> str:
    """A number of things: 1 trial, 2 trials."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _digits(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"


def _joules(value: float) -> str:
    for step, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "\N{MICRO SIGN}")):
        if abs(value) >= step:
            return f"{_digits(value / step)} {prefix}J"
    return f"{_digits(value / 1e-9)} nJ"


def _scaled(value: float, unit: str) -> str:
    for step, prefix in _STEPS:
        if abs(value) >= step:
            return f"{_digits(value / step)} {prefix}{unit}"
    return f"{value:.0f} {unit}"
