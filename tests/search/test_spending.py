"""Whatever is handed out, what is finished and in flight is never more than the budget."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest

from evaluation.probing.probe import Probe
from search.driver.driver import Search, run_search
from search.driver.spending import ROUNDING
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome, WorkerSpec
from search.engines.base import JobSource
from search.engines.simulated import SimulatedEngine
from search.front import front_files
from search.front.front import find
from search.samplers import Sensitivity
from search.simulation.table import Table
from search.space.options import RecoveryOptions, SpaceOptions, StepOptions
from search.stopping.rungs import NOBODY, Rungs
from search.study import ledger
from search.study.ledger import StudyRows
from search.study.reading import read_rows
from tests.search.curious import SCORES, Curiosity, bits
from tests.search.searches import tiny_search, tiny_space
from tests.search.test_probes import Crew, Hearing

RUNGS = Rungs(shares=(0.3, 1.0, 1.0), epochs=(0.25, 0.5, 1.0), grace=2)
CLIMBS = SpaceOptions(recovery=RecoveryOptions(epochs=(0, 4), learning_rate=(1e-3, 1e-2)))
COMPRESSED = SpaceOptions(
    quantize=StepOptions(choices=("w8a8",)), recovery=RecoveryOptions(epochs=(0,))
)
FEW = tuple(Probe("scores", (bits("stem", n),), samples=300) for n in (2, 3, 4, 5))  # 0.9 each
MANY = tuple(Probe("scores", (bits("head", n),), samples=700) for n in (2, 3, 4))  # 2.1 each


class Meter(SimulatedEngine):
    """Sees at every moment what is finished and what is in flight; may be interrupted."""

    def __init__(self, workers: int, budget: float) -> None:
        super().__init__(workers=workers)
        self.budget = budget
        self.finished, self.out = 0.0, dict[int, float]()
        self.took = 0.0  # seconds
        self.numbers: list[int] = []
        self.left: int | None = None

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        self.out.clear()  # what was in flight in an earlier run is lost
        self._source = source
        super().run(spec, self)

    def next_job(self) -> Job | None:
        return self._source.next_job()

    def remaining(self) -> int:
        return self._source.remaining()

    def finish(self, outcome: JobOutcome) -> None:
        if self.left is not None and (left := self.left) >= 0:
            if left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        self.finished += self.out.pop(outcome.number)
        self.took += outcome.seconds
        self._source.finish(outcome)

    def _outcome(self, table: Table, job: Job, folder: Path) -> JobOutcome:
        outcome = super()._outcome(table, job, folder)
        self.numbers.append(job.number)
        self.out[job.number] = outcome.evaluations
        assert self.finished + sum(self.out.values()) <= self.budget + ROUNDING
        return outcome


def metered(folder: Path, engine: Meter, options: SpaceOptions, **changes: Any) -> Search:
    given = {"space": tiny_space(options), "trials": 60, "evaluations": engine.budget}
    return tiny_search(folder, engine, **{**given, **changes})


@pytest.mark.parametrize("budget", [1.0, 7.2, 10.7, 18.5])
@pytest.mark.parametrize("workers", [1, 16])
@pytest.mark.parametrize(
    ("options", "stopping"), [(CLIMBS, RUNGS), (CLIMBS, NOBODY), (COMPRESSED, NOBODY)]
)
def test_nothing_overspends(
    tmp_path: Path, budget: float, workers: int, options: SpaceOptions, stopping: Rungs
) -> None:
    engine = Meter(workers, budget)
    asks = Curiosity([FEW, MANY])
    rows = run_search(metered(tmp_path, engine, options, sampler=asks, stopping=stopping))
    assert not engine.out
    assert rows.evaluations == pytest.approx(engine.finished)
    assert budget - 1 - ROUNDING < rows.evaluations <= budget + ROUNDING


@pytest.mark.parametrize(
    ("budget", "cuts"),
    [(14.0, (1, 2, 3)), (14.0, (8, 4)), (14.0, (12, 1, 1, 9)), (10.7, (11,)), (10.7, (13,))],
)
@pytest.mark.parametrize("options", [CLIMBS, COMPRESSED])
def test_nothing_overspends_over_several_runs(
    tmp_path: Path, budget: float, cuts: tuple[int, ...], options: SpaceOptions
) -> None:
    engine = Meter(4, budget)
    stopping = RUNGS if options is CLIMBS else NOBODY
    for left in (*cuts, None):
        engine.left = left
        search = metered(
            tmp_path, engine, options, sampler=Curiosity([FEW, MANY]), stopping=stopping
        )
        try:
            rows = run_search(search)
        except KeyboardInterrupt:
            rows = read_rows(search.storage, search.name)
        assert rows.evaluations == pytest.approx(engine.finished)
    assert budget - 1 - ROUNDING < rows.evaluations <= budget + ROUNDING
    assert not unfinished(rows)


@pytest.mark.parametrize("cut", range(8, 14))
def test_whoever_was_on_a_rung_is_told_though_no_whole_trial_fits(tmp_path: Path, cut: int) -> None:
    engine = Meter(4, 10.7)
    engine.left = cut
    with pytest.raises(KeyboardInterrupt):
        run_search(metered(tmp_path, engine, CLIMBS, stopping=RUNGS))
    left = unfinished(read_rows(f"sqlite:///{tmp_path / 'study.db'}", "study"))
    engine.left = None
    rows = run_search(metered(tmp_path, engine, CLIMBS, stopping=RUNGS))
    assert left
    assert not unfinished(rows)
    ended = [rows.trials[number] for number in left]
    assert {row.state for row in ended} <= {"complete", "stopped_early"}
    assert all("after rung" in str(row.reason) for row in ended if row.state == "stopped_early")


def test_rungs_of_another_ladder_stay_spent(tmp_path: Path) -> None:
    engine = Meter(4, 14.0)
    for left, stopping in ((9, RUNGS), (6, NOBODY), (None, RUNGS)):
        engine.left = left
        search = metered(tmp_path, engine, CLIMBS, stopping=stopping)
        with suppress(KeyboardInterrupt):
            run_search(search)
        rows = read_rows(search.storage, search.name)
        assert cost(tmp_path, rows) == (pytest.approx(engine.finished), engine.took)


def test_prices_hold_where_a_network_is_probed(tmp_path: Path) -> None:
    for budget, workers in ((8.0, 3), (10.5, 1), (13.0, 3)):
        sampler = Sensitivity(hull=3, offline=2)
        folder = tmp_path / str(budget)
        search = tiny_search(folder, Crew(workers), sampler=sampler, trials=60, evaluations=budget)
        rows = run_search(search)
        assert budget - 1 - ROUNDING < rows.evaluations <= budget + ROUNDING


def test_a_batch_without_room_is_not_sent_and_the_sampler_goes_on(tmp_path: Path) -> None:
    asks, engine, hearing = Curiosity([[SCORES], FEW]), Meter(2, 9.0), Hearing()
    rows = run_search(metered(tmp_path, engine, CLIMBS, sampler=asks), [hearing])
    assert hearing.probed == [("probing", 0, 1), ("probing", 1, 1)]
    assert [finding is None for _, finding in asks.learned] == [False, *[True] * 4]
    assert [row.key for row in rows.probes] == [SCORES.key()]
    assert len(rows.trials) == 8
    asks, engine = Curiosity([[SCORES], FEW]), Meter(2, 16.0)
    more = run_search(metered(tmp_path, engine, CLIMBS, sampler=asks))
    assert all(finding is not None for _, finding in asks.learned)
    assert len(more.probes) == 5


def test_the_search_by_sensitivities_goes_on_without_answers(tmp_path: Path) -> None:
    short, long = Meter(2, 7.5), Meter(2, 12.0)  # the scores take 0.768
    rows = run_search(metered(tmp_path, short, CLIMBS, sampler=Sensitivity()))
    own = [row for row in rows.trials if row.baseline is None]
    assert [row.kind for row in rows.probes if row.finding] == []
    assert [(row.state, row.phase) for row in own] == [("complete", "hull")]
    more = run_search(metered(tmp_path, long, CLIMBS, sampler=Sensitivity()))
    assert [row.kind for row in more.probes if row.finding] == ["scores"]


def test_the_reference_counts_once_and_is_found_again(tmp_path: Path) -> None:
    first = Meter(2, 4.0)
    rows = run_search(metered(tmp_path, first, COMPRESSED))
    assert first.numbers == [REFERENCE_JOB, 0, 1, 2]
    assert rows.apart is not None
    assert rows.apart.evaluations == 1.0
    assert cost(tmp_path, rows) == (4.0, sum(r.seconds for r in rows.trials) + rows.apart.seconds)
    again, more = Meter(2, 4.0), Meter(2, 6.0)
    assert run_search(metered(tmp_path, again, COMPRESSED)) == rows
    longer = run_search(metered(tmp_path, more, COMPRESSED))
    assert (again.numbers, more.numbers) == ([], [3, 4])
    assert cost(tmp_path, longer)[0] == 6.0
    assert metered(tmp_path, first, COMPRESSED).total == 3


def test_a_reference_that_is_a_trial_counts_as_that(tmp_path: Path) -> None:
    engine = Meter(2, 4.0)
    rows = run_search(metered(tmp_path, engine, CLIMBS))
    assert (rows.apart, engine.numbers, cost(tmp_path, rows)[0]) == (None, [0, 1, 2, 3], 4.0)
    assert metered(tmp_path, engine, CLIMBS).total == 4


def test_studies_made_before_the_reference_was_counted_still_open(tmp_path: Path) -> None:
    search = metered(tmp_path, Meter(2, 4.0), COMPRESSED)
    run_search(search)
    study = optuna.load_study(study_name=search.name, storage=search.storage)
    study._storage.set_study_user_attr(study._study_id, ledger.REFERENCE_TOOK, None)
    old = read_rows(search.storage, search.name)
    assert (old.apart, old.evaluations) == (None, 3.0)
    engine = Meter(2, 4.0)
    rows = run_search(metered(tmp_path, engine, COMPRESSED))
    assert (engine.numbers, rows.evaluations) == ([3], 4.0)


def unfinished(rows: StudyRows) -> list[int]:
    """Trials that took something, and are not told."""
    return [row.number for row in rows.trials if row.state == "waiting" and row.evaluations]


def cost(folder: Path, rows: StudyRows) -> tuple[float, float]:
    front_files.write(folder, rows, find(rows), front_files.Validation())
    found = json.loads((folder / front_files.JSON).read_text())["cost"]
    return found["evaluations"], pytest.approx(found["seconds"], abs=1e-3)
