"""From a sum of operators to a model's latency: a few factors, fitted once on measured models.

latency = start + sum over families of factor * (prices of its operators). Operators that follow
one another find caches as the one before left them, wait for each other and are dispatched: the
factors say by how much, for each family, and `start` what a run takes before and after. They are
drawn towards one pace, and `start` towards 0, so that what few models tell of cannot run wild.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from evaluation.cache import make_folder, replacing

FAMILIES = ("float", "integer", "light")
TRUST = 0.2  # in factors that are alike: as a departure of all of it from a model would weigh
STRICT = 0.5  # with a start that is not 0, as a share of the latency


@dataclass(frozen=True)
class Correction:
    """The factors, and by how much of the latency the models departed from it."""

    start_ms: float
    factors: Mapping[str, float]
    departure: float  # the mean of the relative departures of the models that it was fitted on

    def latency_ms(self, sums: Mapping[str, float]) -> float:
        """The latency of a model whose operators sum up to this, by family."""
        return self.start_ms + sum(self.factors[name] * sums.get(name, 0.0) for name in FAMILIES)


PLAIN = Correction(0.0, dict.fromkeys(FAMILIES, 1.0), 0.1)  # of a model that nobody measured


def fit(sums: Sequence[Mapping[str, float]], measured: Sequence[float]) -> Correction:
    """The correction under which the sums give what was measured, in relative terms."""
    told = np.array(measured)
    rows = np.array([[1.0, *(one.get(name, 0.0) for name in FAMILIES)] for one in sums])
    drawn = np.diag([STRICT * (1 / told).mean(), *(TRUST for _ in FAMILIES)])
    left = np.vstack([rows / told[:, None], drawn])
    pace = float(np.median(told / rows[:, 1:].sum(1)))
    right = np.concatenate([np.ones(len(told)), [0.0], pace * drawn.diagonal()[1:]])
    (start, *factors), _ = nnls(left, right)
    departure = float(np.abs(rows @ [start, *factors] / told - 1).mean())
    named = dict(zip(FAMILIES, map(float, factors), strict=True))
    return Correction(float(start), named, departure)


def read(path: Path) -> Correction | None:
    """What `write` wrote; None where nothing usable is there."""
    try:
        found = json.loads(path.read_text())
        factors = {name: float(found["factors"][name]) for name in FAMILIES}
        return Correction(float(found["start_ms"]), factors, float(found["departure"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, correction: Correction) -> None:
    """Keep a correction."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(correction), indent=1))


def by_family(parts: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The sum of each family."""
    sums: dict[str, float] = {}
    for family, milliseconds in parts:
        sums[family] = sums.get(family, 0.0) + milliseconds
    return sums
