"""The search's latencies of the front's members against those of their exported files.

Where the search predicts, this tells how well. Knows nothing of how a latency is predicted: what
a prediction states of itself is its spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import StudyRows
from search.views.figures import words
from search.views.report_data import has
from search.views.ticks import ticks

NAME = "latency_ms"


@dataclass(frozen=True)
class Pair:
    """One member's latency in ms: the search's, and its file's."""

    trial: int
    searched: float
    stated: float  # half of the interval that the search's latency states
    exported: float
    spread: float
    noisy: bool

    @property
    def departure(self) -> float:
        """How far the search's lies from the file's, as a share of that."""
        return self.searched / self.exported - 1


@dataclass(frozen=True)
class Prediction:
    """All of them, the uncompressed model's two latencies, and how they were found."""

    how: str
    pairs: tuple[Pair, ...]
    reference: tuple[float, float]

    @property
    def stated(self) -> float:
        """What the search's latencies state of themselves, as a share of each."""
        return median(pair.stated / pair.searched for pair in self.pairs)

    def sentence(self) -> str:
        """By how much they depart, on the average."""
        departures = [pair.departure for pair in self.pairs]
        widest = max(self.pairs, key=lambda pair: abs(pair.departure))
        searched, exported = self.reference
        scale = exported / searched
        ratios = [pair.searched * scale / pair.exported - 1 for pair in self.pairs]
        mean = fmean(departures)
        signed = ("+" if mean >= 0 else "") + _share(mean)
        return (
            f"Over {_files(len(self.pairs))} the {_noun(self.how)} departs from the "
            f"measurement by {_share(_mean(departures))} on the average "
            f"({signed} with the sign; the most, {_share(abs(widest.departure))}, at trial "
            f"{widest.trial}), and by "
            f"{_share(_mean(ratios))} where both are held against the uncompressed model. "
            f"Of itself it states ± {_share(self.stated)}." + self._noise()
        )

    def _noise(self) -> str:
        noisy = sum(pair.noisy for pair in self.pairs)
        return f" {noisy} of the measurements are noisy." if noisy else ""

    def plot(self) -> dict[str, Any]:
        """The scatter as the page's script reads it."""
        values = [v for p in self.pairs for v in (p.searched, p.exported)] + [*self.reference]
        factor = max((max(values) / min(values)) ** 0.09, 1.08)
        limits = (min(values) / factor, max(values) * factor)
        marks = ticks(limits, "ms", True)
        return {
            "how": self.how,
            "range": limits,
            "ticks": marks,
            "band": self.stated,
            "points": [
                {
                    "x": pair.exported,
                    "y": pair.searched,
                    "dx": pair.spread,
                    "dy": pair.stated,
                    "noisy": pair.noisy,
                    "hover": f"trial {pair.trial}<br>{self.how} {words(pair.searched, 'ms')}, "
                    f"measured {words(pair.exported, 'ms')} ({_share(pair.departure)} apart)"
                    + ("<br>timed on a noisy machine" if pair.noisy else ""),
                }
                for pair in self.pairs
            ],
            "reference": {
                "x": self.reference[1],
                "y": self.reference[0],
                "hover": f"uncompressed<br>before {words(self.reference[0], 'ms')}, "
                f"in this run {words(self.reference[1], 'ms')}",
            },
        }


def prediction(
    rows: StudyRows, front: Front, validation: Validation, how: str
) -> Prediction | None:
    """The pairs of a front whose files were measured; None where there is nothing to compare."""
    timing = validation.timing
    if timing is not None and (timing.untimed or timing.basis != "measured"):
        return None
    if not (has(rows.reference, NAME) and has(validation.reference, NAME)):
        return None
    assert rows.reference is not None
    assert validation.reference is not None
    base = (rows.reference[NAME].value, validation.reference[NAME].value)
    pairs = tuple(_pairs(front, validation))
    if not pairs or min(base) <= 0:
        return None
    return Prediction(how or "searched", pairs, base)


def _pairs(front: Front, validation: Validation) -> list[Pair]:
    found = []
    for row in front.members:
        exported = validation.of(row)
        if not (has(exported, NAME) and has(row.measurement, NAME)):
            continue
        assert exported is not None
        assert row.measurement is not None
        searched, measured = row.measurement[NAME], exported[NAME]
        if min(searched.value, measured.value) > 0:
            spreads = (searched.spread or 0.0, measured.spread or 0.0)
            found.append(
                Pair(
                    row.number,
                    searched.value,
                    spreads[0],
                    measured.value,
                    spreads[1],
                    validation.noisy(row),
                )
            )
    return found


def _mean(departures: Sequence[float]) -> float:
    return math.fsum(map(abs, departures)) / len(departures)


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def _noun(how: str) -> str:
    return "prediction" if how == "predicted" else "search's own timing"


def _files(number: int) -> str:
    return "the one member" if number == 1 else f"{number} members"
