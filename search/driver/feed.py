"""The job source of a study: turns asked trials into jobs and outcomes into told trials.

Knows no engine. A policy that a completed trial had already is not evaluated again; the
uncompressed model is evaluated first and alone, as constraints compare with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from evaluation.measurement import Measurement, Metric
from search.atomic import write_text
from search.driver.interrupts import uninterrupted
from search.driver.probes import Probes
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome
from search.space.baselines import UNCOMPRESSED, can_leave_alone
from search.space.space import Space
from search.study import ledger
from search.study.ledger import Listener, Objective, TrialRow
from search.study.objectives import margins
from search.study.study import Study


ROUNDING = 1e-6  # of sums of evaluations


@dataclass(frozen=True)
class Plan:
    """What a study's trials are asked from and judged by."""

    space: Space
    objectives: tuple[Objective, ...]
    quality: Metric
    constraints: Mapping[str, float]
    trials: int
    hours: float | None
    folder: Path
    evaluations: float | None = None  # of trials and probes together, those of earlier runs too


@dataclass(frozen=True)
class _InFlight:
    policy: str
    policy_id: str
    baseline: str | None


class Feed:
    """Jobs of one run of a study; see `engines.base.JobSource`."""

    def __init__(self, study: Study, plan: Plan, listeners: Sequence[Listener]) -> None:
        self._study = study
        self._plan = plan
        self._listeners = listeners
        self._distributions = plan.space.distributions()
        self._out: dict[int, _InFlight] = {}
        self._probes = Probes(study, plan.folder, listeners)
        self._finished = study.finished()
        self._twins: dict[str, TrialRow] = {}
        self._deadline = math.inf if plan.hours is None else time.monotonic() + plan.hours * 3600
        rows = study.rows()
        self._spent = sum(row.evaluations for row in rows.trials)
        for row in rows.complete():
            self._remember(row)

    def remaining(self) -> int:
        """How many jobs are to be finished at most, those in flight included."""
        if self._ended():
            return self._in_flight()
        return max(self._in_flight(), self._plan.trials - self._finished)

    def _ended(self) -> bool:
        """Whether no job may be started: time is up, or another whole evaluation is too many."""
        if time.monotonic() >= self._deadline:
            return True
        most = self._plan.evaluations
        if most is None:
            return False
        return self._spent + self._probes.evaluations + len(self._out) + 1 > most + ROUNDING

    def _in_flight(self) -> int:
        return len(self._out) + self._probes.in_flight

    def next_job(self) -> Job | None:
        """The next trial that needs evaluating, or probe to answer before it, if there is one."""
        if self._study.reference is None and self._out:
            return None  # everything waits for the uncompressed model
        while self._finished + len(self._out) < self._plan.trials:
            if self._ended():
                return None
            if self._study.reference is None and not can_leave_alone(self._plan.space):
                return self._send(REFERENCE_JOB, Policy(), None)
            probe = self._probes.next_job()
            if probe is not None or self._probes.hold_trials():
                return probe
            with uninterrupted():
                trial = self._study.ask(self._distributions)
            policy = self._plan.space.policy(trial.params)
            job = self._send(trial.number, policy, trial.user_attrs.get(ledger.BASELINE))
            twin = self._twins.get(self._out[job.number].policy_id)
            if twin is None:
                return job
            self._take_from(twin, job.number)
        return None

    def finish(self, outcome: JobOutcome) -> None:
        """Tell the study what came of a job."""
        if outcome.machine:  # the trial stays in flight, and waits for the next start
            raise UserError(
                f"The machine let a trial down: {outcome.reason} Make room or mend it; the same "
                "command continues, and no trial is lost."
            )
        if outcome.number < REFERENCE_JOB:
            self._probes.finish(outcome)
            return
        sent = self._out[outcome.number]
        measurement = _measurement(outcome)
        if self._study.reference is None and _is_reference(outcome.number, sent):
            self._set_reference(measurement, outcome)
        if outcome.number == REFERENCE_JOB:
            del self._out[outcome.number]
            return
        attributes = {
            ledger.MEASUREMENT: outcome.measurement,
            ledger.RECORD: outcome.record,
            ledger.ARTIFACT: outcome.artifact,
            ledger.SECONDS: outcome.seconds,
            ledger.EVALUATIONS: outcome.evaluations,
            ledger.REASON: outcome.reason,
            ledger.TRACEBACK: outcome.traceback,
        }
        self._tell(outcome.number, measurement, attributes)

    def _send(self, number: int, policy: Policy, baseline: str | None) -> Job:
        text = policy_yaml.dump(policy)
        self._out[number] = _InFlight(text, policy_yaml.policy_id(policy), baseline)
        return Job(number, text)

    def _take_from(self, twin: TrialRow, number: int) -> None:
        measurement = twin.measurement
        attributes = {
            ledger.MEASUREMENT: None if measurement is None else measurement.to_json(),
            ledger.RECORD: twin.record,
            ledger.ARTIFACT: twin.artifact,
            ledger.SAME_AS: twin.number,
        }
        self._tell(number, measurement, attributes)

    def _tell(
        self, number: int, measurement: Measurement | None, attributes: Mapping[str, Any]
    ) -> None:
        sent = self._out[number]
        values, reason = self._values(measurement)
        constraints = {}
        if values is not None and measurement is not None:
            constraints = self._margins(measurement)
        told = {
            **attributes,
            ledger.POLICY: sent.policy,
            ledger.POLICY_ID: sent.policy_id,
            ledger.REASON: attributes.get(ledger.REASON) or reason,
        }
        with uninterrupted():
            row = self._study.tell(number, values, told, constraints)
            del self._out[number]
            self._finished += 1
            self._spent += row.evaluations
            self._remember(row)
        for listener in self._listeners:
            listener.trial_finished(row)

    def _values(self, measurement: Measurement | None) -> tuple[list[float] | None, str | None]:
        if measurement is None:
            return None, None
        values = [measurement[objective.name].value for objective in self._plan.objectives]
        for objective, value in zip(self._plan.objectives, values, strict=True):
            if not math.isfinite(value):
                return None, f"The measured {objective.name} is {value}, which is no number."
        return values, None

    def _margins(self, measurement: Measurement) -> dict[str, float]:
        reference = self._study.reference
        if reference is None:
            return {}
        return margins(measurement, reference, self._plan.constraints, self._plan.quality)

    def _remember(self, row: TrialRow) -> None:
        if row.state == "complete" and row.policy_id is not None:
            self._twins.setdefault(row.policy_id, row)

    def _set_reference(self, measurement: Measurement | None, outcome: JobOutcome) -> None:
        if measurement is not None and self._values(measurement)[0] is not None:
            self._study.set_reference(measurement)
            return
        details = self._plan.folder / "reference_error.txt"
        write_text(details, outcome.traceback or outcome.reason or "no details")
        raise UserError(
            "The uncompressed model itself could not be evaluated, so no trial would be either: "
            f"{outcome.reason or self._values(measurement)[1]} Details are in {details}."
        )


def _is_reference(number: int, sent: _InFlight) -> bool:
    return number == REFERENCE_JOB or sent.baseline == UNCOMPRESSED


def _measurement(outcome: JobOutcome) -> Measurement | None:
    if outcome.measurement is None:
        return None
    return Measurement.from_json([dict(row) for row in outcome.measurement])
