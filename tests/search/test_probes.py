"""Probes between a curious sampler and the engines: asked, answered, kept, learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from compressors.errors import UserError
from evaluation.probing.probe import Probe
from search.driver.driver import run_search
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome, WorkerSpec
from search.driver.worker import build_evaluator, run_job
from search.engines.base import JobSource
from search.front import front_files
from search.front.front import find
from search.study.ledger import StudyRows
from search.study.reading import read_rows
from search.views.progress import LineProgress, LiveProgress
from tests.search.curious import CHANGES, IMPOSSIBLE, SCORES, Curiosity
from tests.search.searches import InlineEngine, tiny_evaluator, tiny_search
from tests.search.test_driver import Following

BASELINES = 6


class Hearing(Following):
    """A listener that hears of probes too."""

    def probing(self, done: int, total: int) -> None:
        self.calls.append(("probing", done, total))

    @property
    def probed(self) -> list[Any]:
        return [call for call in self.calls if isinstance(call, tuple) and call[0] == "probing"]


class Crew:
    """Several workers in this process; of those with probes, the last given one is done first."""

    def __init__(self, workers: int = 3) -> None:
        self.workers = workers
        self.given: list[Job] = []
        self.at_once: list[int] = []

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        evaluator = build_evaluator(spec)
        busy: list[Job] = []
        while source.remaining():
            while len(busy) < self.workers and (job := source.next_job()) is not None:
                busy.append(job)
                self.given.append(job)
            self.at_once.append(sum(job.probe is not None for job in busy))
            assert len(busy) <= source.remaining()
            trials = (place for place, job in enumerate(busy) if job.probe is None)
            done = busy.pop(next(trials, -1))
            source.finish(self.outcome(evaluator, done, Path(spec.folder)))

    def outcome(self, evaluator: Any, job: Job, folder: Path) -> JobOutcome:
        return run_job(evaluator, job, folder)


def test_probes_are_answered_after_the_baselines_and_before_the_samplers_own(
    tmp_path: Path,
) -> None:
    asks = Curiosity([[SCORES], CHANGES])
    hearing = Hearing()
    rows = run_search(tiny_search(tmp_path, sampler=asks, trials=8), [hearing])
    assert [row.state for row in rows.trials] == ["complete"] * 8
    assert asks.probes == [SCORES, *CHANGES]
    assert all(count == BASELINES for count in asks.asked_with[:3])
    first = asks.learned[0][1]
    assert first is not None
    assert np.isfinite(first.damage).all()
    told = hearing.calls[1 + BASELINES :]
    batches = [("probing", 0, 1), ("probing", 1, 1), *[("probing", n, 4) for n in range(5)]]
    assert told == [*batches, 6, 7, "closed"]
    keys = [probe.key() for probe in asks.probes]
    assert [row.key for row in rows.probes] == sorted(keys)
    assert all((tmp_path / str(row.finding)).is_file() for row in rows.probes)
    assert read_rows(f"sqlite:///{tmp_path / 'study.db'}", "study") == rows


def test_probes_count_in_the_cost(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, sampler=Curiosity([[SCORES], CHANGES]), trials=7))
    spent = [row.evaluations for row in rows.probes]
    assert sorted(spent) == pytest.approx([*[2 * 15 / 300] * 4, 3 * 30 / 300])
    front_files.write(tmp_path, rows, find(rows), front_files.Validation())
    cost = json.loads((tmp_path / "front.json").read_text())["cost"]
    assert cost["evaluations"] == pytest.approx(7 + sum(spent))
    assert cost["seconds"] > sum(row.seconds for row in rows.trials)


def test_what_a_study_knows_is_learned_without_a_job(tmp_path: Path) -> None:
    before, after, crew = Curiosity([[SCORES], CHANGES]), Curiosity([[SCORES], CHANGES]), Crew()
    run_search(tiny_search(tmp_path, sampler=before, trials=7))
    rows = run_search(tiny_search(tmp_path, crew, sampler=after, trials=8))
    assert [job.number for job in crew.given] == [7]
    assert after.probes == before.probes
    for (_, old), (_, new) in zip(before.learned, after.learned, strict=True):
        assert old is not None
        assert new is not None
        np.testing.assert_array_equal(old.damage, new.damage)
        assert old.evaluations == new.evaluations
    (tmp_path / str(rows.probes[0].finding)).unlink()
    again = Crew()
    third = run_search(
        tiny_search(tmp_path, again, sampler=Curiosity([[SCORES], CHANGES]), trials=9)
    )
    assert [job.probe is not None for job in again.given] == [True, False]
    assert (tmp_path / str(rows.probes[0].finding)).is_file()
    assert len(third.probes) == len(rows.probes)


def test_probes_run_beside_each_other_and_are_learned_in_order(tmp_path: Path) -> None:
    crew, asks = Crew(3), Curiosity([CHANGES, [SCORES]])
    run_search(tiny_search(tmp_path, crew, sampler=asks, trials=8))
    assert asks.probes == [*CHANGES, SCORES]
    assert max(crew.at_once) == 3
    own = [job for job in crew.given if job.probe is not None or job.number >= BASELINES]
    assert [job.probe is not None for job in own] == [True] * 5 + [False] * 2
    numbers = [job.number for job in crew.given]
    assert len(set(numbers)) == len(numbers)
    assert all(job.number < REFERENCE_JOB for job in own[:5])


def test_a_probe_that_fails_ends_no_search(tmp_path: Path) -> None:
    asks = Curiosity([[IMPOSSIBLE, SCORES]])
    rows = run_search(tiny_search(tmp_path, sampler=asks, trials=7))
    assert [row.state for row in rows.trials] == ["complete"] * 7
    assert asks.learned[0] == (IMPOSSIBLE, None)
    assert asks.learned[1][1] is not None
    (failed,) = (row for row in rows.probes if row.key == IMPOSSIBLE.key())
    assert failed.finding is None
    assert "nowhere" in str(failed.reason)
    assert "Traceback" in str(failed.traceback)
    crew, later = Crew(), Curiosity([[IMPOSSIBLE, SCORES]])
    run_search(tiny_search(tmp_path, crew, sampler=later, trials=8))
    assert [job.probe for job in crew.given] == [None]
    assert later.learned[0] == (IMPOSSIBLE, None)


def test_a_probe_whose_price_fails_is_not_sent_and_ends_no_search(tmp_path: Path) -> None:
    def price(probe: Probe) -> float:
        if probe == SCORES:
            raise RuntimeError("no room for the model here")
        return tiny_evaluator().price(probe)

    asks, hearing = Curiosity([[SCORES, *CHANGES], [SCORES]]), Hearing()
    search = tiny_search(tmp_path, sampler=asks, trials=7, evaluations=20.0, price=price)
    rows = run_search(search, [hearing])
    assert [row.state for row in rows.trials] == ["complete"] * 7
    assert asks.learned[0] == (SCORES, None)
    assert all(finding is not None for _, finding in asks.learned[1:])
    assert sorted(row.key for row in rows.probes) == sorted(probe.key() for probe in CHANGES)
    assert hearing.probed == [("probing", n, 4) for n in range(5)]
    asks = Curiosity([[SCORES]])
    run_search(tiny_search(tmp_path, sampler=asks, trials=8, evaluations=20.0))
    assert asks.learned[0][1] is not None  # another run may find it out


def test_listeners_hear_of_no_probe_that_is_not_sent(tmp_path: Path) -> None:
    asks, hearing = Curiosity([CHANGES]), Hearing()
    search = tiny_search(  # each takes more than it is priced at, until there is no room
        tmp_path, sampler=asks, trials=7, evaluations=7.205, price=lambda probe: 0.01
    )
    rows = run_search(search, [hearing])
    assert len(rows.probes) == 2
    assert [finding is None for _, finding in asks.learned] == [False, False, True, True]
    assert hearing.probed == [*[("probing", n, 4) for n in range(3)], ("probing", 2, 2)]


def test_a_full_disk_fails_no_probe_but_the_run(tmp_path: Path) -> None:
    class Full(Crew):
        def outcome(self, evaluator: Any, job: Job, folder: Path) -> JobOutcome:
            if job.probe is not None:
                return JobOutcome(job.number, reason="OSError: no room.", machine=True)
            return super().outcome(evaluator, job, folder)

    with pytest.raises(UserError, match="no room"):
        run_search(tiny_search(tmp_path, Full(), sampler=Curiosity([[SCORES]]), trials=7))
    asks = Curiosity([[SCORES]])
    rows = run_search(tiny_search(tmp_path, sampler=asks, trials=7))
    assert asks.learned[0][1] is not None
    assert [row.reason for row in rows.probes] == [None]


def test_an_interrupt_between_probes_loses_none(tmp_path: Path) -> None:
    engine = InlineEngine(interrupt_after=BASELINES + 2)
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_search(tmp_path, engine, sampler=Curiosity([CHANGES]), trials=7))
    crew, asks = Crew(1), Curiosity([CHANGES])
    run_search(tiny_search(tmp_path, crew, sampler=asks, trials=7))
    assert [job.probe is not None for job in crew.given] == [True, True, False]
    assert asks.probes == list(CHANGES)
    assert all(finding is not None for _, finding in asks.learned)


def test_wanting_the_same_again_ends_the_questions(tmp_path: Path) -> None:
    class Stubborn(Curiosity):
        def build(self, setting: Any) -> Any:
            sampler = super().build(setting)
            sampler.wants = lambda study: [SCORES]  # type: ignore[attr-defined]
            return sampler

    asks = Stubborn([])
    rows = run_search(tiny_search(tmp_path, sampler=asks, trials=8))
    assert asks.probes == [SCORES]
    assert len(rows.trials) == 8


def test_progress_says_that_it_probes(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, trials=1))
    assert "probing the network: 1 of 4 probes answered" in shown(rows, LineProgress)
    assert "probing the network: 1 of 4 probes answered" in shown(rows, LiveProgress)
    assert "probing" not in shown(rows, LiveProgress, done=4)


def shown(rows: StudyRows, kind: type[LineProgress] | type[LiveProgress], done: int = 1) -> str:
    console = Console(record=True, width=100, force_terminal=kind is LiveProgress, quiet=False)
    with console.capture() as captured:
        progress = kind(console)
        progress.started(rows, 8)
        progress.probing(done, 4)
        progress.closed()
    return captured.get()
