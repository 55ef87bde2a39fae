"""What a study is told of a trial that ends: evaluated, stopped on its way, or like another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.driver.climbing import Climbing
from search.driver.trial_job import JobOutcome
from search.stopping.reports import Decision
from search.study import ledger
from search.study.ledger import TrialRow

Attributes = Mapping[str, Any]  # of the trial, see `ledger`


def of_outcome(outcome: JobOutcome, climbing: Climbing) -> Attributes:
    """Of a trial whose last job has ended, its rungs before that included."""
    return {
        ledger.MEASUREMENT: outcome.measurement,
        ledger.RECORD: outcome.record,
        ledger.ARTIFACT: outcome.artifact,
        ledger.SECONDS: outcome.seconds + climbing.seconds(outcome.number),
        ledger.EVALUATIONS: outcome.evaluations + climbing.evaluations(outcome.number),
        ledger.REASON: outcome.reason,
        ledger.TRACEBACK: outcome.traceback,
    }


def of_stop(decision: Decision, climbing: Climbing) -> Attributes:
    """Of a trial that is not evaluated further, with what it measured last."""
    number = decision.trial
    return {
        ledger.MEASUREMENT: climbing.told(number)[-1]["measurement"],
        ledger.SECONDS: climbing.seconds(number),
        ledger.EVALUATIONS: climbing.evaluations(number),
        ledger.REASON: f"{decision.reason}, {climbing.rung_in_words(number)}.",
        ledger.EXPECTED: climbing.expected(decision),
    }


def of_twin(twin: TrialRow) -> Attributes:
    """Of a trial whose policy another had: that one's results."""
    return {
        ledger.MEASUREMENT: None if twin.measurement is None else twin.measurement.to_json(),
        ledger.RECORD: twin.record,
        ledger.ARTIFACT: twin.artifact,
        ledger.SAME_AS: twin.number,
        ledger.REASON: twin.reason,
    }
