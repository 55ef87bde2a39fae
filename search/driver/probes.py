"""Finds out what a curious sampler wants to know: probes as jobs, and their findings taught.

A batch of probes runs on all workers at once and is taught in the order in which it was wanted,
so that nothing depends on which worker was quicker. What the study holds already is taught
without a job. A batch that the budget has no room for, with a trial after it, is not begun, and a
probe for which there is none any more, or whose price cannot be found out, is not sent: the sampler
is told that there is no answer. Listeners hear only of what is answered, or is to be.
Knows neither engines nor what a finding means.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.probing import finding_files
from evaluation.probing.probe import Finding, Probe
from search.driver.interrupts import uninterrupted
from search.driver.judging import Plan
from search.driver.spending import TRIAL, Spending
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome
from search.study.ledger import FollowsProbes, Listener, ProbeRow
from search.study.study import Study


class Probes:
    """The probes of one run of a study."""

    def __init__(
        self, study: Study, plan: Plan, spending: Spending, listeners: Sequence[Listener]
    ) -> None:
        self._study = study
        self._plan = plan
        self._spending = spending
        self._listeners = [one for one in listeners if isinstance(one, FollowsProbes)]
        self._rows = {row.key: row for row in study.probes()}
        self._batch: list[Probe] = []
        self._queue: list[tuple[Probe, float]] = []  # with what each takes at most
        self._begun = False  # whether a probe of the batch was sent
        self._answered = 0  # of the batch
        self._out: dict[int, Probe] = {}
        self._taught: set[str] = set()
        self._number = REFERENCE_JOB

    @property
    def in_flight(self) -> int:
        """How many probes are being answered."""
        return len(self._out)

    def hold_trials(self) -> bool:
        """Whether the sampler's own trials wait for what is being found out."""
        return bool(self._batch) and not self._study.waits()

    def next_job(self) -> Job | None:
        """The next probe to answer; none while trials wait that do not need the sampler."""
        if self._study.curious() is None or self._study.waits():
            return None
        while self._queue or self._begin():
            room = self._room()
            if self._spending.fits(room):
                return self._send(*self._queue.pop(0))
            if self._spending.may_fit(room):
                return None  # once what is in flight has taken less than it might
            self._queue.clear()
            if self._begun:
                self._tell()
            self._teach_whole_batch()
        return None

    def finish(self, outcome: JobOutcome) -> None:
        """Keep what came of a probe; teach the batch once it is whole."""
        probe = self._out.pop(outcome.number)
        before = self._rows.get(probe.key())  # its finding was lost
        row = ProbeRow(
            key=probe.key(),
            kind=probe.kind,
            policies=len(probe.policies),
            evaluations=outcome.evaluations + (before.evaluations if before else 0.0),
            seconds=outcome.seconds + (before.seconds if before else 0.0),
            finding=outcome.finding,
            reason=outcome.reason,
            traceback=outcome.traceback,
        )
        with uninterrupted():
            self._study.keep_probe(row)
            self._rows[row.key] = row
        self._answered += 1
        self._tell()
        self._teach_whole_batch()

    def _send(self, probe: Probe, price: float) -> Job:
        self._number -= 1
        self._out[self._number] = probe
        self._spending.give(self._number, price)
        if not self._begun:
            self._begun = True
            self._tell()
        return Job(self._number, policy="", probe=probe.to_json())

    def _room(self) -> float:
        """What the next probe needs, or the whole batch before its first, and a trial after it."""
        sent = self._queue[:1] if self._begun else self._queue
        return TRIAL + sum(price for _, price in sent)

    def _begin(self) -> bool:
        """Ask what is wanted until something has to be found out, or nothing is."""
        while not self._batch and (fresh := self._wanted()):
            self._batch, self._begun = fresh, False
            unknown = [probe for probe in fresh if not self._is_known(probe)]
            self._answered = len(fresh) - len(unknown)
            priced = [(probe, self._price(probe)) for probe in unknown]
            self._queue = [(probe, price) for probe, price in priced if price is not None]
            if self._queue:
                return True
            self._teach_whole_batch()
        return False

    def _price(self, probe: Probe) -> float | None:
        """What a probe takes at most; found out only where there is a budget to hold it against.

        None where the task's own code fails at that: it could take anything, and is not sent.
        """
        if not self._spending.bounded:
            return 0.0
        try:
            return self._plan.price(probe)
        except Exception:
            return None

    def _wanted(self) -> list[Probe]:
        wanted = {probe.key(): probe for probe in self._study.wanted()}
        return [probe for key, probe in wanted.items() if key not in self._taught]

    def _is_known(self, probe: Probe) -> bool:
        row = self._rows.get(probe.key())
        return row is not None and (row.finding is None or self._found(row) is not None)

    def _teach_whole_batch(self) -> None:
        if self._queue or self._out:
            return
        curious = self._study.curious()
        for probe in self._batch:
            self._taught.add(probe.key())
            if curious is not None:
                curious.learn(probe, self._found(self._rows.get(probe.key())))
        self._batch = []

    def _found(self, row: ProbeRow | None) -> Finding | None:
        if row is None or row.finding is None:
            return None
        return finding_files.read(self._plan.folder / row.finding)

    def _tell(self) -> None:
        total = self._answered + len(self._queue) + len(self._out)  # others are given up
        for listener in self._listeners:
            listener.probing(self._answered, total)
