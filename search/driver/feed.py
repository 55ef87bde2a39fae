"""The job source of a study: turns asked trials into jobs and outcomes into told trials.

Knows no engine. A policy that a completed trial had already is not evaluated again; the
uncompressed model is evaluated first and alone, as constraints compare with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from evaluation.measurement import Measurement
from search.driver import telling
from search.driver.climbing import Climbing, Judged
from search.driver.interrupts import uninterrupted
from search.driver.judging import Judge, Plan, Twins, measured
from search.driver.probes import Probes
from search.driver.spending import TRIAL, Spending
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome
from search.driver.worker import TRIALS
from search.space.baselines import UNCOMPRESSED, can_leave_alone
from search.stopping.reports import Decision
from search.study import ledger
from search.study.ledger import Listener
from search.study.reading import trial_row
from search.study.study import Study


@dataclass(frozen=True)
class _InFlight:
    policy: str
    policy_id: str
    baseline: str | None


class Feed:
    """Jobs of one run of a study; see `engines.base.JobSource`."""

    def __init__(
        self,
        study: Study,
        plan: Plan,
        listeners: Sequence[Listener],
        clock: Callable[[], float] = time.monotonic,  # seconds
    ) -> None:
        self._study = study
        self._plan = plan
        self._listeners = listeners
        self._distributions = plan.space.distributions()
        self._out: dict[int, _InFlight] = {}
        self._judge = Judge(study, plan)
        broken, box = self._judge.broken, self._judge.box
        judged = Judged(plan.stopping, plan.objectives, plan.quality, broken, box, plan.seed)
        self._climbing = Climbing(study, judged)
        self._finished = study.finished()
        self._twins = Twins(stopped=plan.stopping.stops)
        self._clock = clock
        self._deadline = math.inf if plan.hours is None else clock() + plan.hours * 3600
        rows = study.rows()
        self._spending = Spending(plan.evaluations, rows.evaluations)
        self._probes = Probes(study, plan, self._spending, listeners)
        for row in rows.trials:
            self._twins.add(row)

    def remaining(self) -> int:
        """How many jobs are to be finished at most, those in flight included."""
        if self._late():
            return self._in_flight()  # who waits for others goes on in the next run
        if self._ended():
            return self._in_flight() + self._climbing.idle
        return max(self._in_flight(), self._plan.trials - self._finished)

    def _late(self) -> bool:
        return self._clock() >= self._deadline

    def _ended(self) -> bool:
        """Whether no trial may be started: time is up, or another evaluation is too many.

        Baselines that wait have their share of what is left.
        """
        return self._late() or not self._spending.fits(TRIAL + self._climbing.owed)

    def _wants_trials(self) -> bool:
        return self._finished + len(self._out) < self._plan.trials

    def _goes_on(self) -> bool:
        """Whether a trial is to go on, and may."""
        price = self._climbing.ready
        return price is not None and not self._late() and self._spending.fits(price)

    def _in_flight(self) -> int:
        return len(self._out) - self._climbing.idle + self._probes.in_flight

    def take_up(self) -> None:
        """Let trials stand where an earlier run left them, and stop them where nothing fits.

        That costs nothing, and what they took is spent: they need no room for a whole trial.
        """
        for number in self._climbing.standing:
            if not self._wants_trials():
                break
            with uninterrupted():
                trial = self._study.ask_again(number)
            self._begin(trial)
        while self._settle():
            pass

    def next_job(self) -> Job | None:
        """The next job of a trial, or probe to answer before it, if there is one."""
        while True:
            job = self._next_job()
            if job is not None and job.probe is None:
                self._spending.give(job.number, job.share)
            if job is not None or not self._settle():
                return job

    def _settle(self) -> bool:
        """Let whoever waits go on or end once nothing else can happen; whether anybody waited."""
        asks = self._wants_trials() and not self._ended()
        if self._late() or self._in_flight() or not self._climbing.idle or asks:
            return False
        if self._goes_on():
            return False
        self._stop(self._climbing.drain())
        return True

    def _next_job(self) -> Job | None:
        if self._study.reference is None and self._out:
            return None  # everything waits for the uncompressed model
        if self._goes_on():
            return self._climbing.next()
        while self._wants_trials():
            if self._ended():
                return None
            if self._study.reference is None and not can_leave_alone(self._plan.space):
                return self._send(REFERENCE_JOB, Policy(), None)
            probe = self._probes.next_job()
            if probe is not None or self._probes.hold_trials():
                return probe
            with uninterrupted():
                trial = self._study.ask(self._distributions)
            job = self._begin(trial)
            if job is not None:
                return job
        return None

    def _begin(self, trial: FrozenTrial) -> Job | None:
        """The first job of a trial; None where it has its twin's results, or stands at a rung."""
        policy = self._plan.space.policy(trial.params)
        job = self._send(trial.number, policy, trial.user_attrs.get(ledger.BASELINE))
        twin = self._twins.of(self._out[job.number].policy_id)
        if twin is not None:
            told = telling.of_twin(twin)
            stopped = twin.state == "stopped_early"
            self._tell(job.number, twin.measurement, told, stopped=stopped)
            return None
        rungs = trial.user_attrs.get(ledger.RUNGS, ())
        if rungs:
            self._stop(self._climbing.resume(job.number, rungs, trial_row(trial)))
        return None if self._climbing.resumed(job.number) else job

    def finish(self, outcome: JobOutcome) -> None:
        """Tell the study what came of a job."""
        if outcome.machine:  # the trial stays in flight, and waits for the next start
            raise UserError(
                f"The machine let a trial down: {outcome.reason} Make room or mend it; the same "
                "command continues, and no trial is lost."
            )
        self._spending.settle(outcome.number, outcome.evaluations)
        if outcome.number < REFERENCE_JOB:
            self._probes.finish(outcome)
        else:
            self._finish_trial(outcome)
        while self._settle():
            pass

    def _finish_trial(self, outcome: JobOutcome) -> None:
        sent = self._out[outcome.number]
        measurement = measured(outcome)
        if self._study.reference is None and _is_reference(outcome.number, sent):
            self._judge.set_reference(measurement, outcome)
        if outcome.number == REFERENCE_JOB:
            self._climbing.end(outcome.number, None, complete=False)
            del self._out[outcome.number]
            return
        if self._judge.values(measurement)[0] is not None:
            with uninterrupted():
                stopped = self._climbing.report(outcome)
            if stopped is not None:
                self._stop(stopped)
                return
        self._tell(outcome.number, measurement, telling.of_outcome(outcome, self._climbing))

    def _send(self, number: int, policy: Policy, baseline: str | None) -> Job:
        text = policy_yaml.dump(policy)
        self._out[number] = _InFlight(text, policy_yaml.policy_id(policy), baseline)
        whole = _is_reference(number, self._out[number])
        compared = baseline is not None
        epochs = policy.recovery.epochs
        return self._climbing.begin(number, text, epochs, whole=whole, compared=compared)

    def _stop(self, decisions: Sequence[Decision]) -> None:
        """Tell the trials that are not evaluated further, with what they measured last."""
        for decision in decisions:
            number = decision.trial
            told = telling.of_stop(decision, self._climbing)
            measurement = Measurement.from_json([dict(row) for row in told[ledger.MEASUREMENT]])
            self._tell(number, measurement, told, stopped=True)
            for file in (self._plan.folder / TRIALS).glob(f"{number}.*"):
                with suppress(OSError):
                    file.unlink()

    def _tell(
        self,
        number: int,
        measurement: Measurement | None,
        attributes: Mapping[str, Any],
        *,
        stopped: bool = False,
    ) -> None:
        sent = self._out[number]
        values, reason = self._judge.values(measurement)
        constraints = {}
        if values is not None and measurement is not None:
            constraints = self._judge.margins(measurement)
        told = {
            **attributes,
            ledger.POLICY: sent.policy,
            ledger.POLICY_ID: sent.policy_id,
            ledger.REASON: attributes.get(ledger.REASON) or reason,
        }
        with uninterrupted():
            kept = None if stopped else values
            row = self._study.tell(number, kept, told, constraints, stopped=stopped)
            self._climbing.end(number, measurement, complete=kept is not None)
            del self._out[number]
            self._finished += 1
            self._twins.add(row)
        for listener in self._listeners:
            listener.trial_finished(row)


def _is_reference(number: int, sent: _InFlight) -> bool:
    return number == REFERENCE_JOB or sent.baseline == UNCOMPRESSED
