"""The rungs that a policy climbs: more validation data, then more of its own recovery's epochs.

A rung is a share of each policy's own schedule, so that all of a rung are equally far in theirs;
none of it is what the policy does before it is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from compressors.errors import UserError
from evaluation.fidelity import WHOLE, Fidelity

Ladder = tuple[Fidelity, ...]


@dataclass(frozen=True)
class Steps:
    """Of every rung the share of the validation data and of a policy's epochs; the last is all."""

    shares: tuple[float, ...] = (1.0,)
    epochs: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _check("stopping.shares", self.shares)
        _check("stopping.epochs", self.epochs, zero=True)
        if len(self.shares) != len(self.epochs):
            raise UserError(
                f"stopping.shares has {len(self.shares)} rungs and stopping.epochs has "
                f"{len(self.epochs)}; valid: as many of each."
            )

    def ladder(self, epochs: int) -> Ladder:
        """What a policy with so many epochs of recovery climbs; rungs that add nothing fall out."""
        rungs: list[Fidelity] = []
        for share, part in zip(self.shares, self.epochs, strict=True):
            run = min(epochs, max(1, round(part * epochs))) if part else 0
            whole = share >= 1 and run == epochs
            rung = WHOLE if whole else Fidelity(share, run)
            if rung not in rungs:
                rungs.append(rung)
        return tuple(rungs)


def _check(name: str, values: Sequence[float], *, zero: bool = False) -> None:
    rising = all(a <= b for a, b in pairwise(values))
    begun = all(value > 0 or (zero and value == 0) for value in values)
    if not values or not begun or not rising or values[-1] != 1:
        least = "from 0" if zero else "above 0"
        raise UserError(
            f"{name} cannot be {list(values)}; valid: shares {least} that never fall, the last 1."
        )
