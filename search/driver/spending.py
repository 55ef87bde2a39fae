"""What a study has spent and may spend, in evaluations: whole validation splits scored.

Every job that is handed out, of whatever kind, is entered with what it takes at most, and settled
with what it took, so that what is finished and what is in flight are never more than the budget.
Knows nothing of what a job does.
"""

from __future__ import annotations

import math

ROUNDING = 1e-6  # of sums of evaluations
TRIAL = 1.0  # the room that a trial is started in


class Spending:
    """The evaluations of a study, those of earlier runs among them."""

    def __init__(self, most: float | None, spent: float) -> None:
        self._most = math.inf if most is None else most + ROUNDING
        self._spent = spent
        self._out: dict[int, float] = {}

    @property
    def bounded(self) -> bool:
        """Whether there is a budget at all."""
        return self._most < math.inf

    def fits(self, price: float) -> bool:
        """Whether there is room for so much beside all that is in flight."""
        return not self.bounded or self._spent + sum(self._out.values()) + price <= self._most

    def may_fit(self, price: float) -> bool:
        """Whether there would be, if whatever is in flight took nothing."""
        return self._spent + price <= self._most

    def give(self, number: int, price: float) -> None:
        """A job is handed out that takes so much at most."""
        self._out[number] = price

    def settle(self, number: int, took: float) -> None:
        """A job has ended."""
        del self._out[number]
        self._spent += took
