"""A budget of evaluations: what trials and probes spend of it, and where it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.errors import UserError
from search.configuration.settings import Budget
from search.driver.driver import run_search
from search.driver.trial_job import Job, JobOutcome, WorkerSpec
from search.engines.base import JobSource
from tests.search.searches import tiny_search

SIZE = {"name": "size_bytes", "unit": "bytes", "direction": "minimize"}
ERROR = {"name": "error", "unit": "fraction", "direction": "minimize"}


class Priced:
    """Answers every job at once, each for the same share of an evaluation; keeps it all in view."""

    workers = 3

    def __init__(self, price: float) -> None:
        self.price = price
        self.answered: list[int] = []

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        held: list[Job] = []
        while source.remaining():
            while len(held) < self.workers and (job := source.next_job()) is not None:
                held.append(job)
            job = held.pop(0)
            self.answered.append(job.number)
            values = [{**ERROR, "value": 0.1, "spread": 0.01}, {**SIZE, "value": 9.0, "spread": 0}]
            source.finish(JobOutcome(job.number, values, evaluations=self.price))


@pytest.mark.parametrize(("price", "trials"), [(1.0, 7), (0.5, 13), (0.3, 20)])
def test_evaluations_are_never_overspent_and_left_over_only_below_one(
    price: float, trials: int, tmp_path: Path
) -> None:
    engine = Priced(price)
    rows = run_search(tiny_search(tmp_path, engine, trials=200, evaluations=7.0))
    spent = sum(row.evaluations for row in rows.trials)
    assert 7.0 - max(1.0, price) < spent <= 7.0 + 1e-9
    assert len([n for n in engine.answered if n >= 0]) >= trials


def test_a_resume_counts_what_was_spent_before(tmp_path: Path) -> None:
    first, second, third = Priced(1.0), Priced(1.0), Priced(1.0)
    run_search(tiny_search(tmp_path, first, trials=50, evaluations=5.0))
    rows = run_search(tiny_search(tmp_path, second, trials=50, evaluations=8.0))
    run_search(tiny_search(tmp_path, third, trials=50, evaluations=8.0))
    assert (len(first.answered), len(second.answered), third.answered) == (5, 3, [])
    assert sum(row.evaluations for row in rows.trials) == 8.0


def test_the_number_of_trials_is_a_bound_of_its_own(tmp_path: Path) -> None:
    rows = run_search(tiny_search(tmp_path, Priced(0.01), trials=9, evaluations=100.0))
    assert len(rows.trials) == 9


def test_trials_may_be_left_to_the_evaluations() -> None:
    assert Budget(trials=None, evaluations=30).most_trials >= 30
    assert Budget(trials=12, evaluations=30).most_trials == 12
    with pytest.raises(UserError, match=r"budget\.trials cannot be null unless"):
        Budget(trials=None)
    with pytest.raises(UserError, match=r"budget\.evaluations cannot be 0"):
        Budget(evaluations=0)
