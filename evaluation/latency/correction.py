"""From the prices of operators to a model's latency: fitted once on measured models of its kind.

latency = start + sum over operators of (its family's factor * its price + its own part)
          + bytes * what a byte takes

Operators that follow one another find caches as the one before left them, wait for each other and
are dispatched; weights that no cache holds come from farther away. What is not known of a model
beforehand is drawn to what is likely, as far as these widths say: factors to one pace, `start` to
the dispatch floor at that pace, the rest to nothing. Few models then move what they tell of, and
nothing else runs wild.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.cache import make_folder, replacing

FAMILIES = ("float", "integer", "light")
NOISE = 0.02  # of a measured latency
WITHIN_95 = 1.96  # standard deviations
START = 0.3  # widths: of the floor,
FACTOR = {"float": 0.2, "integer": 0.2, "light": 1.0}  # of the pace, for a whole family: light
# operators wait for memory, and what stands between them and their neighbours is counted nowhere,
OWN = 0.1  # of its price, for one operator,
MEMORY = 0.1  # of the latency, for all bytes together

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """An operator of a file, and its price."""

    key: str
    family: str
    milliseconds: float


@dataclass(frozen=True)
class Priced:
    """A file: what it is made of, and its size."""

    parts: tuple[Part, ...]
    megabytes: float

    @property
    def total(self) -> float:
        """The sum of the prices."""
        return sum(part.milliseconds for part in self.parts)


@dataclass(frozen=True)
class Correction:
    """What was fitted, and how far a model that was not among those may depart from it."""

    start_ms: float
    megabyte_ms: float
    factors: Mapping[str, float]
    own: Mapping[str, float]  # milliseconds that an operator takes beyond its family's
    departure: float  # of a latency as a share: half of the 95 % interval of another model's
    first_ms: float | None = None  # what the first of these models took

    def latency_ms(self, model: Priced) -> float:
        """The latency of a model of such operators."""
        operators = (
            self.factors[part.family] * part.milliseconds + self.own.get(part.key, 0.0)
            for part in model.parts
        )
        return self.start_ms + self.megabyte_ms * model.megabytes + sum(operators)


PLAIN = Correction(0.0, 0.0, dict.fromkeys(FAMILIES, 1.0), {}, 0.1)  # of what nobody measured


def fit(models: Sequence[Priced], measured: Sequence[float], floor_ms: float = 0.0) -> Correction:
    """The likeliest correction under which the models take what was measured."""
    told = np.array(measured)
    pace = float(np.median(told / [floor_ms + model.total for model in models]))
    prices = {part.key: part.milliseconds for model in models for part in model.parts}
    rows = np.array([_row(model, list(prices)) for model in models])
    likely = np.array([pace * floor_ms, 0.0, *(pace for _ in FAMILIES), *(0.0 for _ in prices)])
    size = float(np.mean([model.megabytes for model in models])) or 1.0
    width = np.array(
        [
            START * pace * floor_ms,
            MEMORY * float(told.mean()) / size,
            *(FACTOR[family] * pace for family in FAMILIES),
            *(OWN * pace * price for price in prices.values()),
        ]
    )
    found, missed = _posterior(rows / told[:, None], likely, width)
    departure = WITHIN_95 * float(np.sqrt(np.mean(missed**2)))
    start, memory, *others = map(float, found)
    factors, own = others[: len(FAMILIES)], others[len(FAMILIES) :]
    return Correction(
        start,
        memory,
        dict(zip(FAMILIES, factors, strict=True)),
        dict(zip(prices, own, strict=True)),
        departure,
        float(told[0]),
    )


def _row(model: Priced, keys: Sequence[str]) -> list[float]:
    """What each of the unknowns counts in a model."""
    families, runs = dict.fromkeys(FAMILIES, 0.0), dict.fromkeys(keys, 0.0)
    for part in model.parts:
        families[part.family] += part.milliseconds
        runs[part.key] += 1
    return [1.0, model.megabytes, *families.values(), *runs.values()]


def _posterior(rows: Array, likely: Array, width: Array) -> tuple[Array, Array]:
    """The mean of the unknowns, drawn to what is likely, under which all rows give about 1.

    And by how much each row would be missed by what the others alone tell.
    """
    scaled = rows * width
    certain = np.linalg.inv(scaled @ scaled.T + NOISE**2 * np.eye(len(rows)))
    pull = certain @ (1 - rows @ likely)
    return np.asarray(likely + width * (scaled.T @ pull)), np.asarray(pull / np.diag(certain))


def read(path: Path) -> Correction | None:
    """What `write` wrote; None where nothing usable is there."""
    try:
        found = json.loads(path.read_text())
        factors = {name: float(found["factors"][name]) for name in FAMILIES}
        own = {str(key): float(value) for key, value in found["own"].items()}
        start, megabyte = float(found["start_ms"]), float(found["megabyte_ms"])
        departure, first = float(found["departure"]), float(found["first_ms"])
        return Correction(start, megabyte, factors, own, departure, first)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(path: Path, correction: Correction) -> None:
    """Keep a correction."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(correction), indent=1))
