"""The trials of a run on their rungs: what each measured, what it is to do next, who decides.

Keeps every rung's outcome in the trial's attributes, so that a search that was killed goes on at
the last rung told. Knows the study and the rules of stopping; knows no engine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.fidelity import WHOLE, Fidelity
from evaluation.measurement import Measurement, Metric
from search.driver.trial_job import Job, JobOutcome
from search.stopping.ladder import Ladder
from search.stopping.reports import Decision, Report, minimised
from search.stopping.rungs import Rungs
from search.stopping.scheduler import Scheduler
from search.study import ledger
from search.study.ledger import Objective, TrialRow
from search.study.problem import Box
from search.study.study import Study

Told = Mapping[str, Any]  # a rung's outcome as the trial's attributes keep it


@dataclass(frozen=True)
class Judged:
    """What trials are compared by."""

    stopping: Rungs
    objectives: tuple[Objective, ...]
    quality: Metric
    broken: Callable[[Measurement], float]  # how far a measurement breaks bounds on costs
    box: Callable[[], Box | None]  # where hypervolume counts, as soon as that is known
    seed: int


@dataclass
class _Climb:
    """A trial in flight, on its ladder."""

    policy: str
    length: int  # epochs of recovery
    ladder: Ladder
    compared: bool  # whether others are to be compared with it
    told: list[Told] = field(default_factory=list)
    evaluations: float = 0.0  # of all that was told, in earlier runs by whatever ladder
    seconds: float = 0.0  # likewise


class Climbing:
    """The rungs of one run of a study. Without stopping there is one, and nothing to decide."""

    def __init__(self, study: Study, judged: Judged) -> None:
        self._study = study
        self._judged = judged
        self._scheduler: Scheduler | None = None
        self._climbs: dict[int, _Climb] = {}
        self._ready: list[tuple[int, int, int]] = []  # higher rungs first, then first come
        self._waiting: set[int] = set()
        self._order = 0
        self._bounded = False  # whether the scheduler knows where hypervolume counts
        self.standing: list[int] = []  # whom an earlier run left at a rung of this ladder, to ask
        if judged.stopping.stops:
            names = [objective.name for objective in judged.objectives]
            self._scheduler = judged.stopping.scheduler(names, judged.quality.name, judged.seed)
            self._recall()

    @property
    def idle(self) -> int:
        """How many trials are in flight without a job: they wait, or wait for a worker."""
        return len(self._waiting) + len(self._ready)

    @property
    def ready(self) -> float | None:
        """What the trial that goes on next takes, in evaluations; None where none is to."""
        if not self._ready:
            return None
        climb = self._climbs[self._ready[0][-1]]
        return climb.ladder[len(climb.told)].share

    @property
    def owed(self) -> float:
        """What those who wait to be compared with may still take, in evaluations."""
        waiting = (self._climbs[number] for number in self._waiting)
        return sum(
            fidelity.share
            for climb in waiting
            if climb.compared
            for fidelity in climb.ladder[len(climb.told) :]
        )

    def evaluations(self, number: int) -> float:
        """What a trial in flight took so far."""
        return self._climbs[number].evaluations

    def seconds(self, number: int) -> float:
        """How long that took."""
        return self._climbs[number].seconds

    def begin(
        self, number: int, policy: str, epochs: int, *, whole: bool, compared: bool = False
    ) -> Job:
        """The first job of a trial; a whole one has no rungs."""
        ladder = (WHOLE,) if whole else self._judged.stopping.ladder(epochs)
        self._climbs[number] = _Climb(policy, epochs, ladder, compared)
        return self._job(number)

    def resume(self, number: int, told: Sequence[Told], took: TrialRow) -> list[Decision]:
        """Let a trial of an earlier run stand where it stood; nothing where it had no rung."""
        climb = self._climbs[number]
        climb.evaluations, climb.seconds = took.evaluations, took.seconds
        known = self._known(told, climb.ladder)
        if self._scheduler is None or not 0 < len(known) < len(climb.ladder):
            return []
        climb.told = known
        return self._ask(self._scheduler, number, known[-1])

    def resumed(self, number: int) -> bool:
        """Whether a trial stands where an earlier run left it, or was stopped there just now."""
        climb = self._climbs.get(number)
        return climb is None or bool(climb.told)

    def next(self) -> Job | None:
        """The job of a trial that goes on."""
        return self._job(heapq.heappop(self._ready)[-1]) if self._ready else None

    def report(self, outcome: JobOutcome) -> list[Decision] | None:
        """Who is stopped after a rung of a trial; None where the trial has come to its end."""
        climb = self._climbs[outcome.number]
        fidelity = climb.ladder[len(climb.told)]
        if self._scheduler is None or fidelity.whole or outcome.measurement is None:
            return None
        self._order += 1
        told = {
            "share": fidelity.share,
            "epochs": fidelity.epochs,
            "length": climb.length,
            "order": self._order,
            "measurement": outcome.measurement,
            "seconds": outcome.seconds,
            "evaluations": outcome.evaluations,
        }
        climb.told.append(told)
        climb.evaluations += outcome.evaluations
        climb.seconds += outcome.seconds
        kept = {
            ledger.RUNGS: climb.told,
            ledger.RECORD: outcome.record,
            ledger.EVALUATIONS: climb.evaluations,
            ledger.SECONDS_SO_FAR: climb.seconds,
        }
        self._study.keep(outcome.number, kept)
        return self._ask(self._scheduler, outcome.number, told)

    def drain(self) -> list[Decision]:
        """Nothing more will be reported: whoever waits is stopped, or goes on after all."""
        if self._scheduler is None:
            return []
        unstarted = [number for _, _, number in self._ready]  # the budget has no room for them
        self._ready.clear()
        decisions = [Decision(number, "stop", "Out of budget") for number in unstarted]
        return decisions + self._heed(self._scheduler.drain())

    def end(self, number: int, measurement: Measurement | None, *, complete: bool) -> None:
        """Take a trial off its ladder."""
        climb = self._climbs.pop(number)
        if self._scheduler is not None:
            if complete and measurement is not None:
                self._scheduler.finish(self._made(number, len(climb.told), measurement, 0))
            else:
                self._scheduler.drop(number)

    def _ask(self, scheduler: Scheduler, number: int, told: Told) -> list[Decision]:
        """Whom a rung's outcome stops."""
        if not self._bounded and (box := self._judged.box()) is not None:
            scheduler.within(box)
            self._bounded = True
        return self._heed(scheduler.report(self._report(number, told)))

    def _recall(self) -> None:
        """What earlier runs of the study found; who was in flight is judged again when asked."""
        if self._scheduler is None:
            return
        trials = self._study.trials()
        reports: list[tuple[int, Report, bool]] = []
        for trial in trials:
            told = trial.user_attrs.get(ledger.RUNGS, ())
            if not told:
                continue
            self._order = max(self._order, *(entry["order"] for entry in told))
            ladder = self._judged.stopping.ladder(told[0]["length"])
            known = self._known(told, ladder)
            if not trial.state.is_finished() and 0 < len(known) < len(ladder):
                self.standing.append(trial.number)
            went_on = len(known) if trial.values is not None else len(known) - 1
            settled = known if trial.state.is_finished() else known[:-1]
            for rung, entry in enumerate(settled):
                report = self._report(trial.number, entry)
                reports.append((entry["order"], report, rung < went_on))
        for _, report, went_on in sorted(reports, key=lambda found: found[0]):
            self._scheduler.recall(report, went_on=went_on)
        for trial in trials:
            found = trial.user_attrs.get(ledger.MEASUREMENT)
            if trial.values is not None and found is not None:
                measurement = Measurement.from_json(found)
                self._scheduler.finish(self._made(trial.number, 0, measurement, 0))
            elif trial.state.is_finished():
                self._scheduler.drop(trial.number)

    def told(self, number: int) -> list[Told]:
        """What a trial in flight measured on its way."""
        return self._climbs[number].told

    def expected(self, decision: Decision) -> list[float] | None:
        """What a trial that does not go on would end with, as its objectives are stated."""
        if decision.expected is None:
            return None
        directions = [objective.direction for objective in self._judged.objectives]
        return list(minimised(decision.expected, directions))

    def rung_in_words(self, number: int) -> str:
        """Where a trial stands."""
        climb = self._climbs[number]
        return f"after rung {len(climb.told)} of {len(climb.ladder)}"

    def _job(self, number: int) -> Job:
        climb = self._climbs[number]
        rung = len(climb.told)
        fidelity = climb.ladder[rung]
        costs = climb.told[-1]["measurement"] if climb.told else None
        return Job(number, climb.policy, None, rung, fidelity.share, fidelity.epochs, costs)

    def _heed(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Who goes on is ready for a worker, who waits is noted, with what is expected of it.

        Who is stopped is given back.
        """
        for decision in decisions:
            number = decision.trial
            if number in self._waiting and decision.verdict == "go_on":
                self._study.keep(number, {ledger.EXPECTED: None})  # it will be measured
            self._waiting.discard(number)
            if decision.verdict == "wait":
                self._waiting.add(number)
                self._study.keep(number, {ledger.EXPECTED: self.expected(decision)})
            elif decision.verdict == "go_on":
                self._order += 1
                rung = len(self._climbs[number].told)
                heapq.heappush(self._ready, (-rung, self._order, number))
        return [decision for decision in decisions if decision.verdict == "stop"]

    def _report(self, number: int, told: Told) -> Report:
        measurement = Measurement.from_json([dict(row) for row in told["measurement"]])
        climb = self._climbs.get(number)
        ladder = climb.ladder if climb else self._judged.stopping.ladder(told["length"])
        rung = ladder.index(Fidelity(told["share"], told["epochs"]))
        return self._made(number, rung, measurement, told["length"])

    def _made(self, number: int, rung: int, measurement: Measurement, length: int) -> Report:
        found = [measurement[objective.name] for objective in self._judged.objectives]
        directions = [objective.direction for objective in self._judged.objectives]
        return Report(
            number,
            rung,
            minimised([value.value for value in found], directions),
            tuple(value.spread or 0.0 for value in found),
            self._judged.broken(measurement),
            float(length),
            number in self._climbs and self._climbs[number].compared,
        )

    def _known(self, told: Sequence[Told], ladder: Ladder) -> list[Told]:
        """The rungs told that are of this ladder, from the lowest on."""
        known = []
        for rung, entry in zip(ladder, told, strict=False):
            if rung != Fidelity(entry["share"], entry["epochs"]):
                break
            known.append(entry)
        return known
