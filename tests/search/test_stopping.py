"""Searches whose trials climb rungs: told once, resumable at the last rung, equal where whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from compressors.errors import UserError
from evaluation.measurement import Metric
from search.driver.driver import Search, run_search
from search.driver.trial_job import Job
from search.engines.base import JobSource
from search.engines.local import LocalEngine
from search.engines.simulated import SimulatedEngine
from search.front import front
from search.simulation.recorded import Recorded
from search.space.baselines import UNCOMPRESSED
from search.space.options import RecoveryOptions, SpaceOptions
from search.stopping.prospects import DOMINATED, HOPELESS
from search.stopping.rungs import NOBODY, Rungs
from search.study import ledger
from search.study.ledger import StudyRows
from tests.search.searches import InlineEngine, tiny_search, tiny_space

RUNGS = Rungs(shares=(0.5, 1.0, 1.0), epochs=(0.25, 0.5, 1.0), grace=2, explore=0.0)
SPACE = SpaceOptions(recovery=RecoveryOptions(epochs=(0, 4), learning_rate=(1e-3, 1e-2)))


class Noting(InlineEngine):
    """Remembers the jobs that it ran, of all runs."""

    def __init__(self, jobs: list[Job], interrupt_after: int | None = None) -> None:
        super().__init__(interrupt_after)
        self._jobs = jobs

    def run(self, spec: Any, source: JobSource) -> None:
        jobs = self._jobs

        class Watched:
            def next_job(self) -> Job | None:
                job = source.next_job()
                jobs.extend([job] if job else [])
                return job

            def __getattr__(self, name: str) -> Any:
                return getattr(source, name)

        super().run(spec, Watched())


class Replay(SimulatedEngine):
    """One worker that gives recorded results."""

    def __init__(self, folder: Path, rows: StudyRows) -> None:
        super().__init__(workers=1)
        self._record = folder, rows

    def simulate(self, structure: object, quality: Metric) -> str:
        folder, rows = self._record
        self._table = Recorded(rows, folder, quality)
        return self._table.words


def climbing(folder: Path, engine: Any = None, **changes: Any) -> Search:
    given = {"space": tiny_space(SPACE), "stopping": RUNGS, "trials": 24, **changes}
    return tiny_search(folder, engine, **given)


def attributes(folder: Path) -> list[dict[str, Any]]:
    url = f"sqlite:///{folder / 'study.db'}"
    trials = optuna.load_study(study_name="study", storage=url).get_trials()
    return [trial.user_attrs for trial in trials]


def unended(folder: Path) -> list[dict[str, Any]]:
    url = f"sqlite:///{folder / 'study.db'}"
    trials = optuna.load_study(study_name="study", storage=url).get_trials()
    return [trial.user_attrs for trial in trials if not trial.state.is_finished()]


def ends(rows: StudyRows) -> list[tuple[Any, ...]]:
    return [(row.state, row.policy_id, row.values, row.evaluations) for row in rows.trials]


def test_trials_end_in_full_or_are_stopped_with_what_they_measured(tmp_path: Path) -> None:
    jobs: list[Job] = []
    rows = run_search(climbing(tmp_path, Noting(jobs)))
    states = [row.state for row in rows.trials]
    assert len(states) == 24
    assert set(states) == {"complete", "stopped_early"}
    foreseen = 0
    for row, kept in zip(rows.trials, attributes(tmp_path), strict=True):
        mine = [job for job in jobs if job.number == row.number]
        if row.baseline == UNCOMPRESSED:
            assert row.state == "complete"
            assert [job.share for job in mine] == [1.0]
        elif row.baseline is not None and row.state != "complete":
            assert row.reason is not None
            assert row.reason.startswith((HOPELESS, DOMINATED))
        assert row.measurement is not None
        if ledger.SAME_AS not in kept:
            assert row.evaluations == pytest.approx(sum(job.share for job in mine))
            assert [job.rung for job in mine] == list(range(len(mine)))
        if row.state == "stopped_early" and mine:
            assert row.reason is not None
            assert f"after rung {len(mine)} of" in row.reason
            names = [objective.name for objective in rows.objectives]
            if (values := kept.get(ledger.EXPECTED)) is not None:
                expected = dict(zip(names, values, strict=True))
                del expected["error"]  # training may yet do anything to it
                assert expected == {name: row.measurement[name].value for name in expected}
                foreseen += 1
            assert not list((tmp_path / "trials").glob(f"{row.number}.*"))
    assert not list((tmp_path / "trials").glob("*.recovery"))
    assert foreseen
    assert {row.state for row in front.find(rows).members} == {"complete"}


def test_trained_baselines_climb_survive_a_cut_and_end_in_full(tmp_path: Path) -> None:
    rules = Rungs(RUNGS.shares, RUNGS.epochs, grace=2, explore=0.0, least=0.0)
    with pytest.raises(KeyboardInterrupt):
        run_search(climbing(tmp_path, InlineEngine(9), stopping=rules))
    assert any(kept.get("baseline") and kept.get(ledger.RUNGS) for kept in unended(tmp_path))
    rows = run_search(climbing(tmp_path, stopping=rules))
    trained = [row for row in rows.trials if row.baseline and row.params["recovery/epochs"]]
    assert trained
    for row in trained:
        assert row.state == "complete"
        assert len(row.rungs) == 2


def test_whoever_runs_through_ends_as_without_stopping(tmp_path: Path) -> None:
    everybody = Rungs(RUNGS.shares, RUNGS.epochs, explore=1.0)
    with_rungs = run_search(climbing(tmp_path / "rungs", stopping=everybody, trials=10))
    without = run_search(tiny_search(tmp_path / "none", space=tiny_space(SPACE), trials=10))
    assert [row.values for row in with_rungs.trials] == [row.values for row in without.trials]
    assert [row.record for row in with_rungs.trials] == [row.record for row in without.trials]


def test_a_search_that_was_cut_off_goes_on_at_the_last_rung_told(tmp_path: Path) -> None:
    jobs: list[Job] = []
    whole = run_search(climbing(tmp_path / "whole", Noting([])))
    for left in (9, 7, 6, 5):
        with pytest.raises(KeyboardInterrupt):
            run_search(climbing(tmp_path / "cut", Noting(jobs, interrupt_after=left)))
    rows = run_search(climbing(tmp_path / "cut", Noting(jobs)))
    assert len(rows.trials) == len(whole.trials)
    assert all(row.state in ("complete", "stopped_early") for row in rows.trials)
    told = [(job.number, job.rung) for job in jobs]
    assert len(told) - len(set(told)) <= 4  # one job in flight at each cut
    assert max(job.rung for job in jobs) == 2


def test_several_workers_share_the_rungs(tmp_path: Path) -> None:
    rows = run_search(climbing(tmp_path, LocalEngine(2), trials=16))
    assert all(row.state in ("complete", "stopped_early") for row in rows.trials)
    assert len(rows.trials) == 16


def test_a_budget_of_evaluations_counts_rungs(tmp_path: Path) -> None:
    rows = run_search(climbing(tmp_path, trials=200, evaluations=14.0))
    assert 12 < sum(row.evaluations for row in rows.trials) <= 14 + 1e-6
    assert not [
        row for row in rows.trials if row.baseline and "Out of budget" in (row.reason or "")
    ]
    assert not [row for row in rows.trials if row.state in ("running", "waiting")]


def test_stopping_may_change_from_run_to_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(climbing(tmp_path, InlineEngine(12)))
    rows = run_search(tiny_search(tmp_path, space=tiny_space(SPACE), trials=24))
    last = [row.state for row in rows.trials][-8:]
    assert last == ["complete"] * 8


def test_a_record_of_all_rungs_tells_what_any_rule_would_have_stopped(tmp_path: Path) -> None:
    everybody = Rungs(RUNGS.shares, RUNGS.epochs, explore=1.0)
    record = run_search(climbing(tmp_path / "record", stopping=everybody))
    stopped = run_search(climbing(tmp_path / "stopped"))
    assert {row.state for row in record.trials} == {"complete"}
    again = run_search(climbing(tmp_path / "again", Replay(tmp_path / "record", record)))
    assert {row.state for row in stopped.trials} == {"complete", "stopped_early"}
    assert ends(again) == ends(stopped)
    assert [row.measurement for row in again.trials] == [row.measurement for row in stopped.trials]


def test_rungs_of_a_record_take_the_seconds_that_they_took(tmp_path: Path) -> None:
    everybody = Rungs(RUNGS.shares, RUNGS.epochs, explore=1.0)
    record = run_search(climbing(tmp_path / "record", stopping=everybody, trials=10))
    again = Replay(tmp_path / "record", record)
    rows = run_search(climbing(tmp_path / "again", again, stopping=everybody, trials=10))
    at_once = run_search(climbing(tmp_path / "whole", again, stopping=NOBODY, trials=10))
    taken = [row.seconds for row in record.trials]
    assert [row.seconds for row in rows.trials] == pytest.approx(taken)
    assert [row.seconds for row in at_once.trials] == pytest.approx(taken)


def test_rungs_need_a_quality_to_compare(tmp_path: Path) -> None:
    from evaluation.measurement import ERROR
    from search.study.objectives import objectives_of

    search = climbing(tmp_path, objectives=objectives_of(("size_bytes", "parameters"), ERROR))
    with pytest.raises(UserError, match="stopping=none"):
        run_search(search)
