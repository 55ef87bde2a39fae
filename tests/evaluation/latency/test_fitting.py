"""How many policies a correction is fitted on: as many as it takes, and no file twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from evaluation.latency import fitting
from evaluation.latency.correction import PLAIN, Correction
from evaluation.latency.fitting import LOT, Fitting
from evaluation.latency.parts import Part, Priced
from evaluation.measuring.limits import MeasurementError
from evaluation.target import Artifact, Timing

OPERATORS = 60


@dataclass
class Machine:
    """Made-up files of operators that take more or less than their price, by so wide a share."""

    width: float
    timed: list[int] = field(default_factory=list)  # files, lot by lot
    lowered: int = 0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._took = np.random.default_rng(0).normal(1, self.width, OPERATORS)

    def artifacts(self, count: int, distinct: int = 1000) -> Iterator[Artifact]:
        for number in range(count):
            self.lowered += 1
            yield Artifact(Path(str(number % distinct)), 10**6, str(number % distinct))

    def places(self, name: str) -> list[int]:
        chance = np.random.default_rng(sum(map(ord, name)) + 7 * len(name))
        return [int(place) for place in chance.choice(OPERATORS, 20, replace=False)]

    def priced(self, artifact: Artifact) -> Priced:
        parts = (Part(str(n), "float", 0.05, kind=str(n)) for n in self.places(artifact.path.name))
        return Priced(tuple(parts), 1.0)

    def took(self, path: Path) -> float:
        return 0.05 * float(sum(self._took[place] for place in self.places(path.name)))

    def timings(self, paths: Sequence[Path]) -> list[Timing]:
        self.timed.append(len(paths))
        first = self.took(paths[0])
        return [Timing(self.took(p), 0.0, first / self.took(p), 0.0) for p in paths]

    def fitted(self, others: Iterator[Artifact]) -> Correction:
        reference = Artifact(Path("reference"), 10**6, "reference")
        made = Fitting(reference, self.priced, self.timings, lambda: 0.0)
        return made.fitted(others, self.told.append)


def test_one_lot_is_enough_where_prices_are_right() -> None:
    machine = Machine(width=0.0)
    assert machine.fitted(machine.artifacts(100)).departure < 0.01
    assert (machine.timed, machine.lowered, machine.told) == ([LOT + 1], LOT, [])


def test_it_goes_on_until_others_are_told_closely_and_says_so() -> None:
    machine, short = Machine(width=0.25), Machine(width=0.25)
    found = machine.fitted(machine.artifacts(1000))
    assert found.departure <= fitting.CLOSE
    assert set(machine.timed) == {LOT + 1}
    assert 1 < len(machine.timed) == 1 + len(machine.told) < 20
    assert f"after {LOT} policies" in machine.told[0]
    assert short.fitted(short.artifacts(LOT)).departure > 1.5 * found.departure


def test_it_ends_when_there_are_no_more_or_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(width=0.25)
    machine.fitted(machine.artifacts(LOT + 3))
    assert machine.timed == [LOT + 1, 3 + 1]
    monkeypatch.setattr(fitting, "LONG_S", 0.0)
    slow = Machine(width=0.25)
    slow.fitted(slow.artifacts(100))
    assert slow.timed == [LOT + 1]


def test_a_file_is_measured_once() -> None:
    machine = Machine(width=0.25)
    machine.fitted(machine.artifacts(60, distinct=5))
    assert machine.timed == [5 + 1]


def test_models_are_stated_in_the_first_time_of_the_uncompressed_one() -> None:
    """Lots at different paces of the machine agree."""
    machine, paces = Machine(width=0.25), iter((1.0, 1.7, 0.6))

    def timings(paths: Sequence[Path]) -> list[Timing]:
        pace = next(paces)
        first = machine.took(paths[0])
        return [Timing(machine.took(p) * pace, 0.0, first / machine.took(p), 0.0) for p in paths]

    artifacts = list(machine.artifacts(3 * LOT))
    known = machine.fitted(iter(artifacts))
    reference = Artifact(Path("reference"), 10**6, "reference")
    found = Fitting(reference, machine.priced, timings, lambda: 0.0).fitted(artifacts, print)
    for artifact in artifacts:
        model = machine.priced(artifact)
        assert found.latency_ms(model) == pytest.approx(known.latency_ms(model))


def test_of_the_uncompressed_model_alone_nothing_is_known_of_others() -> None:
    machine = Machine(width=0.25)
    assert machine.fitted(iter(())).departure == PLAIN.departure


def test_few_that_agree_by_luck_are_not_enough() -> None:
    """The first lot holds what the runtime cannot run, but for two files."""
    machine = Machine(width=0.0)
    unable = {str(number) for number in range(2, LOT)}
    priced = machine.priced

    def some(artifact: Artifact) -> Priced:
        if artifact.path.name in unable:
            raise MeasurementError("it cannot run")
        return priced(artifact)

    machine.priced = some
    machine.fitted(machine.artifacts(100))
    assert machine.timed == [3, LOT + 1]
