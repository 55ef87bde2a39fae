"""How a front's latencies came about, kept in front.json beside the figures.

Knows the words of targets (`basis`, why one cannot time), the noisy timings and the dispatch floor.
Fronts written before this was kept have none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluation.measurement import LATENCY, Value
from evaluation.target import Basis, Target, Timing
from evaluation.target_extras import why_untimed


@dataclass(frozen=True)
class Timekeeping:
    """What is known of the exported files' latencies, beyond the figures."""

    basis: Basis
    untimed: str | None = None  # why the target could not time here
    floor: Value | None = None  # the dispatch floor: an almost empty model's latency
    noisy: frozenset[str] = frozenset()  # policy ids of members timed while equals lay apart
    noisy_reference: bool = False


def kept(
    target: Target,
    before: Timekeeping | None,
    noisy: Iterable[str],
    reference: Timing | None,
    floor: Timing | None,
) -> Timekeeping:
    """What is known after a run, with what was known before.

    `noisy` are policy ids, `reference` is the uncompressed model's timing, `floor` that of the
    dispatch floor.
    """
    known = before.floor if before else None
    return Timekeeping(
        basis=target.basis,
        untimed=why_untimed(target),
        floor=Value(LATENCY, floor.median_ms, floor.spread_ms) if floor else known,
        noisy=frozenset(noisy) | (before.noisy if before else frozenset()),
        noisy_reference=reference is not None and reference.noisy,
    )


def stated(timings: Sequence[Timing], reference_ms: float) -> list[Timing]:
    """One run's timings, the uncompressed model's first, in the time that this is known to take.

    What is left of the spreads is that of the ratios.
    """
    pace = reference_ms / timings[0].median_ms
    return [_stated(timing, reference_ms, pace) for timing in timings]


def _stated(timing: Timing, reference_ms: float, pace: float) -> Timing:
    median = reference_ms / timing.speedup

    def at_pace(value: float | None, pace: float = pace) -> float | None:
        return None if value is None else pace * value

    return replace(
        timing,
        median_ms=median,
        spread_ms=median * timing.speedup_spread / timing.speedup,
        p50_ms=at_pace(timing.p50_ms),
        p95_ms=at_pace(timing.p95_ms),
        p99_ms=at_pace(timing.p99_ms),
        throughput=at_pace(timing.throughput, 1 / pace),
    )


def to_json(timing: Timekeeping | None) -> dict[str, Any] | None:
    """What front.json says under `timing`; members say themselves whether they are noisy."""
    if timing is None:
        return None
    floor = timing.floor
    return {
        "basis": timing.basis,
        "untimed": timing.untimed,
        "floor_ms": {"value": floor.value, "spread": floor.spread} if floor else None,
        "noisy_reference": timing.noisy_reference,
    }


def from_json(content: Mapping[str, Any]) -> Timekeeping | None:
    """What the whole of a front.json says of it; None where it is older than that."""
    told = content.get("timing")
    if told is None:
        return None
    floor = told["floor_ms"]
    return Timekeeping(
        basis=told["basis"],
        untimed=told["untimed"],
        floor=Value(LATENCY, floor["value"], floor["spread"]) if floor else None,
        noisy=frozenset(m["policy_id"] for m in content["members"] if m.get("noisy")),
        noisy_reference=bool(told["noisy_reference"]),
    )
