"""What settings cost, before they are measured: totals of work, corrected by what was measured.

Each cost starts as a guess in proportion to the uncompressed model's. Measured settings correct
the guess on a logarithmic scale: first by the totals, then choice by choice. Knows no target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.sensitivity.coding import Settings
from search.sensitivity.ridge import Ridge, fit
from search.sensitivity.work import TOTALS, Work

Floats = NDArray[np.float64]
MOST = 96  # settings that a fit takes at most
BYTES_A_WEIGHT = 4
MOST_WRONG = 3.0  # a guess, on a logarithmic scale
# Of which totals a cost is made before it is measured.
GUESSES: dict[str, dict[str, float]] = {
    "size_bytes": {"bytes": 1.0},
    "parameters": {"weights": 1.0},
    "macs": {"macs": 1.0},
    "bit_operations": {"bit_operations": 1.0},
    "latency_ms": {"time": 0.6, "calls": 0.2, "bytes": 0.2},
    "energy_uj": {"bit_operations": 0.5, "bytes": 0.5},
    "activation_bytes": {"activations": 1.0},
}
OTHERWISE = {"bytes": 0.5, "time": 0.5}


@dataclass(frozen=True)
class Cost:
    """One cost of any setting."""

    guess: Floats  # weights of the totals, and of 1
    correction: Ridge | None

    def __call__(self, totals: Floats, settings: Settings) -> Floats:
        """The cost of each setting, of which these are the totals."""
        guessed = _guessed(self.guess, totals)
        if self.correction is None:
            return guessed
        detailed = settings.climbed(self.correction.detail)
        factor = np.clip(self.correction(np.log(totals), detailed), -MOST_WRONG, MOST_WRONG)
        found: Floats = guessed * np.exp(factor)
        return found


def cost(
    name: str,
    reference: float | None,
    work: Work,
    settings: Callable[[NDArray[np.intp]], Settings],
    values: Floats,
) -> Cost:
    """The cost of that name, from measured values and, by their places, the settings of them.

    `reference` is the uncompressed model's.
    """
    guess = _guess(name, reference, work.weights)
    able = np.flatnonzero(np.isfinite(values) & (values > 0))
    if not len(able):
        return Cost(guess, None)
    chosen = _spread_over(able)
    measured = settings(chosen)
    totals = work.totals(measured)
    ratios = np.log(values[chosen]) - np.log(_guessed(guess, totals))
    if reference is None:  # nothing else tells in which unit
        middle = float(np.median(ratios))
        guess, ratios = guess * np.exp(middle), ratios - middle
    return Cost(guess, fit(np.log(totals), measured.steps, ratios))


def _guess(name: str, reference: float | None, weights: float) -> Floats:
    parts = GUESSES.get(name, OTHERWISE)
    whole = reference or 1.0
    rest = max(0.0, whole - BYTES_A_WEIGHT * weights) if name == "size_bytes" and reference else 0.0
    shares = [parts.get(total, 0.0) * (whole - rest) for total in TOTALS]
    return np.array([*shares, rest])


def _guessed(guess: Floats, totals: Floats) -> Floats:
    found: Floats = np.maximum(totals @ guess[:-1] + guess[-1], 1e-12)
    return found


def _spread_over(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most so many of them: the latest half, and an even choice of the others."""
    if len(places) <= MOST:
        return places
    old = places[: -MOST // 2]
    even = old[np.linspace(0, len(old) - 1, MOST // 2).astype(int)]
    return np.concatenate([even, places[-MOST // 2 :]])
