"""What stopping would have saved of a recorded study, had its trials come in other orders.

    python scripts/bench/early_stopping_orders.py STUDY [--orders 12] [stopping.keep=0.33 ...]

STUDY is the folder of a study in which every trial climbed every rung that is asked about
(`stopping=rungs stopping.explore=1`). Its trials come one by one, the uniform baselines first, the
others as they came and then in other orders, and climb as the scheduler lets them; what a rung
measured and took is what was recorded. Rungs that were recorded and are not asked about are paid
for with the next one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import mean

from compressors.policies import policy_yaml
from evaluation.fidelity import WHOLE, Fidelity
from evaluation.measurement import COSTS, Measurement
from search.configuration import compose
from search.configuration.build import instantiate
from search.front import front
from search.space.baselines import UNCOMPRESSED
from search.stopping.reports import Decision, Report, minimised
from search.stopping.rungs import Rungs
from search.study.ledger import StudyRows, TrialRow
from search.study.problem import box_of
from search.study.reading import read_rows


@dataclass(frozen=True)
class Piece:
    """A part of a trial's evaluation."""

    measurement: Measurement
    seconds: float


@dataclass
class Played:
    """One order of a study's trials, under rules of stopping."""

    rows: StudyRows
    quality: str
    rungs: Rungs
    seed: int

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.rows.objectives]
        self._scheduler = self.rungs.scheduler(names, self.quality, self.seed)
        rows = self.rows
        assert rows.reference is not None
        box = box_of(rows.objectives, self.quality, {}, rows.point, rows.reference)
        self._scheduler.within(box)
        self._left: dict[int, Iterator[tuple[int, Piece | None]]] = {}
        self._by_number = {row.number: row for row in self.rows.trials}
        self._ready: list[int] = []
        self.seconds = 0.0
        self.done: list[TrialRow] = []

    def play(self, order: Sequence[TrialRow]) -> None:
        """Let the trials come."""
        for row in order:
            self._go_on()
            self._left[row.number] = iter(enumerate(_pieces(row, self.rungs)))
            self._climb(row.number)
        self._go_on()
        while self._left.keys() - {row.number for row in self.done}:
            before = len(self._ready), len(self.done)
            self._heed(self._scheduler.drain())
            self._go_on()
            if before == (len(self._ready), len(self.done)):
                break

    def _go_on(self) -> None:
        while self._ready:
            self._climb(self._ready.pop(0))

    def _climb(self, number: int) -> None:
        row = self._by_number[number]
        rung, piece = next(self._left[number])
        if piece is None:
            raise SystemExit(f"Trial {number} did not climb rung {rung + 1}; record it with it.")
        self.seconds += piece.seconds
        found = [piece.measurement[objective.name] for objective in self.rows.objectives]
        directions = [objective.direction for objective in self.rows.objectives]
        values = minimised([value.value for value in found], directions)
        spreads = tuple(value.spread or 0.0 for value in found)
        compared = row.baseline is not None
        report = Report(number, rung, values, spreads, 0.0, float(_epochs(row)), compared)
        if piece.measurement is row.measurement:
            self._scheduler.finish(report)
            self.done.append(row)
            return
        self._heed(self._scheduler.report(report))

    def _heed(self, decisions: Sequence[Decision]) -> None:
        for each in decisions:
            if each.verdict == "stop":
                self._scheduler.drop(each.trial)
        self._ready += [each.trial for each in decisions if each.verdict == "go_on"]


def _pieces(row: TrialRow, rungs: Rungs) -> Iterator[Piece | None]:
    """A trial's rungs, the last of them in full; None for one that was not recorded."""
    assert row.measurement is not None
    ladder = (WHOLE,) if row.baseline == UNCOMPRESSED else rungs.ladder(_epochs(row))
    spent = 0.0
    recorded = iter(row.rungs)
    for fidelity in ladder[:-1]:
        since = 0.0
        for rung in recorded:
            since += rung.seconds
            if fidelity == Fidelity(rung.share, rung.epochs):
                break
        else:
            yield None
        spent += since
        yield Piece(rung.measurement, since)
    yield Piece(row.measurement, row.seconds - spent)


def _epochs(row: TrialRow) -> int:
    return policy_yaml.load(row.policy or "").recovery.epochs


def main() -> None:
    """Print a line for each order, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--orders", type=int, default=12)
    given, overrides = parser.parse_known_args()
    own = compose.read(given.study)
    storage = own.storage or f"sqlite:///{given.study.resolve() / 'study.db'}"
    rows = read_rows(storage, own.study.name)
    rows = replace(rows, trials=tuple(row for row in rows.complete() if row.seconds))
    rungs = instantiate(compose.compose(["stopping=rungs", *overrides]).stopping, "stopping")
    if any(own.constraints.given()):
        raise SystemExit("The study has constraints, of which nothing is known here.")
    baselines = [row for row in rows.trials if row.baseline]
    others = [row for row in rows.trials if not row.baseline]
    costs = {metric.name for metric in COSTS}
    quality = next(each.name for each in rows.objectives if each.name not in costs)
    seconds = sum(row.seconds for row in rows.trials)
    volume = front.find(rows).share or 0.0
    print("order  of the seconds  of the hypervolume  in full")
    found = []
    for seed in range(-1, given.orders):
        played = Played(rows, quality, rungs, max(0, seed))
        order = others if seed < 0 else Random(seed).sample(others, len(others))
        played.play([*baselines, *order])
        share = (front.find(replace(rows, trials=tuple(played.done))).share or 0.0) / volume
        found.append((played.seconds / seconds, share))
        print(
            f"{'own' if seed < 0 else seed:>5}{found[-1][0]:16.3f}{share:20.4f}{len(played.done):9}"
        )
    saved, kept = zip(*found, strict=True)
    print(f" mean{mean(saved):16.3f}{mean(kept):20.4f}   least {min(kept):.4f}")


if __name__ == "__main__":
    main()
