"""What a layer takes, by the rows of a table: its own row, else what rows like it say.

Rows are alike where operator, kernel, steps and precision are equal and sizes are not. Each of the
nearest, scaled to the layer's size by how times grow with multiply-accumulates among its like, is
an estimate; they are averaged by nearness, and by how much they differ is in the spread.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressors.errors import UserError, choices
from evaluation.profiling.table_file import KINDS, Row
from evaluation.target import Precision
from evaluation.work import Work

NEAREST = 4
GUESSED = 0.05  # of the price, in the spread of one that has no row of its own
LEAST_MS = 1e-7
STEEPEST = 1.5  # of the exponents with which times may grow

Family = tuple[str, str, str]
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Price:
    """What a layer takes."""

    median_ms: float
    spread_ms: float
    energy_uj: float | None
    exact: bool  # from a row of its own


class Prices:
    """Prices layers by the rows of a table."""

    def __init__(self, rows: Iterable[Row]) -> None:
        of_layers = [row for row in rows if row.op in KINDS]
        self._rows = {row.key: row for row in of_layers}
        self._like: dict[Family, list[Row]] = defaultdict(list)
        for row in of_layers:
            self._like[_family(row.op, row.shape, row.precision)].append(row)
        self._known: dict[tuple[str, str, str, int], Price] = {}

    def of(self, work: Work) -> Price:
        """The price of one layer; UserError where no row is like it."""
        precision = str(Precision(work.weight_bits, work.activation_bits))
        key = (work.kind, work.shape, precision, work.macs)
        if key not in self._known:
            self._known[key] = self._found(work, precision)
        return self._known[key]

    def _found(self, work: Work, precision: str) -> Price:
        row = self._rows.get((work.kind, work.shape, precision))
        if row is not None and row.macs == work.macs:
            return Price(row.median_ms, row.spread_ms, row.energy_uj, exact=True)
        like = self._like.get(_family(work.kind, work.shape, precision))
        if not like:
            raise UserError(self._missing(work, precision))
        return _between(work, like)

    def _missing(self, work: Work, precision: str) -> str:
        kin = [row for row in self._rows.values() if row.op == work.kind]
        known = choices((f"{row.shape} {row.precision}" for row in kin), 6) or "none"
        named = f" '{work.layer}'" if work.layer else ""
        return (
            f"The table has no row like layer{named} ({work.kind} {work.shape}, {precision}); "
            f"its rows of {work.kind}: {known}."
        )


def _family(op: str, shape: str, precision: str) -> Family:
    """What has to be equal for one row to speak of another."""
    weight, *steps = shape.split(" ")
    if not steps or not re.match(r"s\d", steps[0]):
        return op, "", precision
    kernel = "x".join(weight.split("x")[2:])
    kept = [word for word in steps if word[0] not in "pg@"]
    apart = "" if "g1" in steps else "in groups"
    return op, " ".join([kernel, *kept, apart]), precision


def _between(work: Work, like: Sequence[Row]) -> Price:
    place = _place(work.macs, work.inputs, work.outputs)
    places = np.array([_place(row.macs, row.inputs, row.outputs) for row in like])
    away = np.linalg.norm(places - place, axis=1)
    near = np.argsort(away, kind="stable")[:NEAREST]
    weights = 1 / np.maximum(away[near], 1e-6) ** 2
    weights /= weights.sum()
    grown = place[0] - places[near, 0]

    def estimates(figures: Sequence[float]) -> Array:
        logs = np.log(np.maximum(figures, LEAST_MS))
        return np.asarray(np.exp(logs[near] + _exponent(places[:, 0], logs) * grown))

    told = estimates([row.median_ms for row in like])
    middle = float(weights @ told)
    apart = math.sqrt(float(weights @ (told - middle) ** 2))
    known = max(like[n].spread_ms / max(like[n].median_ms, LEAST_MS) for n in near)
    spread = math.hypot(apart, (GUESSED + known) * middle)
    energies = [row.energy_uj for row in like if row.energy_uj is not None]
    energy = float(weights @ estimates(energies)) if len(energies) == len(like) else None
    return Price(middle, spread, energy, exact=False)


def _place(macs: int, inputs: int, outputs: int) -> Array:
    sizes = np.array([macs or outputs, inputs, outputs], dtype=float)
    return np.asarray(np.log(np.maximum(sizes, 1)))


def _exponent(
    sizes: Array,
    logs: Array,
) -> float:
    """How times grow with sizes: 1 where they are in proportion."""
    if np.ptp(sizes) < 1e-9:
        return 1.0
    slope = float(np.polyfit(sizes, logs, 1)[0])
    return min(STEEPEST, max(0.0, slope))
