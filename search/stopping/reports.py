"""What trials report at rungs, and what is decided of them. Values: less is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["go_on", "wait", "stop"]


@dataclass(frozen=True)
class Report:
    """What a trial measured at a rung."""

    trial: int
    rung: int
    values: tuple[float, ...]  # of the objectives; less is better
    spreads: tuple[float, ...]  # their standard errors
    broken: float = 0.0  # how far bounds on costs are broken, 0 where none is
    length: float = 0.0  # how long the policy trains, in any unit
    compared: bool = False  # whether others are to be compared with it


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial; where it does not go on why, and what it would end with if known."""

    trial: int
    verdict: Verdict
    reason: str | None = None
    expected: tuple[float, ...] | None = None  # less is better


def minimised(values: Sequence[float], directions: Sequence[str]) -> tuple[float, ...]:
    """Values turned so that less is better."""
    pairs = zip(values, directions, strict=True)
    return tuple(v if direction == "minimize" else -v for v, direction in pairs)
