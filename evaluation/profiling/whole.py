"""From the prices of its layers to a model's latency and energy, by what whole models took.

latency = start + factors * sums of layers in float and in integers + what lies between layers, by
their count (dispatch) and by the values that they hand on (norms, additions, activations). The same
for energy. Factors are drawn towards 1 and the rest towards nothing, so that few models suffice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from evaluation.profiling.pricing import Prices
from evaluation.profiling.table_file import BETWEEN, FACTOR, START, LatencyTable, Row
from evaluation.work import Work

TERMS = (
    (START, ""),  # whatever a model has
    (FACTOR, "float"),
    (FACTOR, "integer"),
    (BETWEEN, "layers"),  # each
    (BETWEEN, "values"),  # a million of them, written by layers
)
NEUTRAL = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
TRUST = np.array([0.0, 0.1, 0.1, 0.05, 0.05])  # in what is neutral, as a share of the models' say
DEPARTURE = "departure"  # the fact that says by how much it may be wrong
SURE = 0.02  # a spread, as a share of the latency, that is as good as none
LEAST = 1e-3  # a term's share of the latency, for what is drawn

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Figure:
    """What a model takes, and half of the interval that it lies in."""

    value: float
    spread: float


@dataclass(frozen=True)
class Terms:
    """How much of each term there is in a model."""

    milliseconds: Array
    microjoules: Array | None  # where every layer has a price in energy
    spread_ms: float  # of the sum of its layers

    @staticmethod
    def of(work: Iterable[Work], prices: Prices) -> Terms:
        """Those of the layers that a model runs."""
        layers = list(work)
        found = [prices.of(each) for each in layers]
        whole = [None not in (each.weight_bits, each.activation_bits) for each in layers]
        values = sum(each.outputs for each in layers) * 1e-6

        def summed(figures: Sequence[float]) -> Array:
            of_integers = sum(f for f, integer in zip(figures, whole, strict=True) if integer)
            return np.array([1.0, sum(figures) - of_integers, of_integers, len(layers), values])

        energies = [each.energy_uj for each in found if each.energy_uj is not None]
        return Terms(
            summed([each.median_ms for each in found]),
            summed(energies) if len(energies) == len(found) else None,
            sqrt(sum(each.spread_ms**2 for each in found)),
        )


def fit(terms: Sequence[Array], measured: Sequence[Figure]) -> Array:
    """The coefficients under which terms give what was measured, in relative terms.

    What was measured badly counts for less.
    """
    told = np.array([each.value for each in measured])
    trusted = 1 / (SURE + np.array([each.spread for each in measured]) / told)
    trusted /= trusted.mean()
    shares = np.array(terms) / told[:, None]
    drawn = np.diag(TRUST * sqrt(len(told)) * np.maximum(shares.mean(0), LEAST))
    left = np.vstack([shares * trusted[:, None], drawn])
    found, _ = nnls(left, np.concatenate([trusted, drawn @ NEUTRAL]))
    return np.asarray(found, dtype=float)


@dataclass(frozen=True)
class Tried:
    """A model that was timed as a whole."""

    held_out: bool  # from the fit
    work: tuple[Work, ...]
    measured: Row


def corrected(tried: Sequence[Tried], prices: Prices) -> list[Row]:
    """Both corrections as rows, the one of energy where all was metered."""
    terms = [Terms.of(one.work, prices) for one in tried]
    milliseconds = fit(
        [t.milliseconds for t in terms],
        [Figure(one.measured.median_ms, one.measured.spread_ms) for one in tried],
    )
    energies = _energies(terms, tried)
    return [
        Row(op, shape, "", ms, 0.0, uj)
        for (op, shape), ms, uj in zip(TERMS, milliseconds.tolist(), energies, strict=True)
    ]


def _energies(terms: Sequence[Terms], tried: Sequence[Tried]) -> list[float] | list[None]:
    sums = [each.microjoules for each in terms if each.microjoules is not None]
    energies = [one.measured.energy_uj for one in tried]
    metered = [Figure(energy, 0.0) for energy in energies if energy]
    if not len(sums) == len(metered) == len(tried):
        return [None] * len(TERMS)
    found: list[float] = fit(sums, metered).tolist()
    return found


class Whole:
    """Prices models by a table; `departure` is by how much of the latency it may be wrong."""

    def __init__(self, table: LatencyTable, departure: float) -> None:
        self._prices = Prices(table.rows)
        self._departure = departure
        known = {row.key: row for row in table.of(START, FACTOR, BETWEEN)}
        rows = [known.get((op, shape, "")) for op, shape in TERMS]
        self._milliseconds = np.array(
            [n if r is None else r.median_ms for r, n in zip(rows, NEUTRAL, strict=True)]
        )
        energies = [r.energy_uj for r in rows if r is not None and r.energy_uj is not None]
        self._microjoules = np.array(energies) if len(energies) == len(TERMS) else None

    @staticmethod
    def of(table: LatencyTable) -> Whole:
        """By a finished table; ValueError where it does not tell how far it departs."""
        text = table.facts.get(DEPARTURE, "").split(" ")[0]
        if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
            raise ValueError(f"its {DEPARTURE} is '{text}'")
        return Whole(table, float(text))

    def latency(self, work: Iterable[Work]) -> Figure:
        """Milliseconds of a call."""
        terms = Terms.of(work, self._prices)
        value = float(terms.milliseconds @ self._milliseconds)
        return Figure(value, hypot(terms.spread_ms, self._departure * value))

    def energy(self, work: Iterable[Work]) -> float | None:
        """Microjoules of a sample; None where the table has not all that it takes."""
        terms = Terms.of(work, self._prices)
        if terms.microjoules is None or self._microjoules is None:
            return None
        return float(terms.microjoules @ self._microjoules)
