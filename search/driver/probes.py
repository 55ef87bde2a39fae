"""Finds out what a curious sampler wants to know: probes as jobs, and their findings taught.

A batch of probes runs on all workers at once and is taught in the order in which it was wanted,
so that nothing depends on which worker was quicker. What the study holds already is taught
without a job. Knows neither engines nor what a finding means.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.probing import finding_files
from evaluation.probing.probe import Finding, Probe
from search.driver.interrupts import uninterrupted
from search.driver.trial_job import REFERENCE_JOB, Job, JobOutcome
from search.study.ledger import FollowsProbes, Listener, ProbeRow
from search.study.study import Study


class Probes:
    """The probes of one run of a study."""

    def __init__(self, study: Study, folder: Path, listeners: Sequence[Listener]) -> None:
        self._study = study
        self._folder = folder
        self._listeners = [one for one in listeners if isinstance(one, FollowsProbes)]
        self._rows = {row.key: row for row in study.probes()}
        self._batch: list[Probe] = []
        self._queue: list[Probe] = []
        self._out: dict[int, Probe] = {}
        self._taught: set[str] = set()
        self._number = REFERENCE_JOB

    @property
    def in_flight(self) -> int:
        """How many probes are being answered."""
        return len(self._out)

    @property
    def evaluations(self) -> float:
        """What all probes of the study took, those of earlier runs included."""
        return sum(row.evaluations for row in self._rows.values())

    def hold_trials(self) -> bool:
        """Whether the sampler's own trials wait for what is being found out."""
        return bool(self._batch) and not self._study.waits()

    def next_job(self) -> Job | None:
        """The next probe to answer; none while trials wait that do not need the sampler."""
        if self._study.curious() is None or self._study.waits():
            return None
        if not self._batch:
            self._begin()
        if not self._queue:
            return None
        self._number -= 1
        probe = self._out[self._number] = self._queue.pop(0)
        return Job(self._number, policy="", probe=probe.to_json())

    def finish(self, outcome: JobOutcome) -> None:
        """Keep what came of a probe; teach the batch once it is whole."""
        probe = self._out.pop(outcome.number)
        row = ProbeRow(
            key=probe.key(),
            kind=probe.kind,
            policies=len(probe.policies),
            evaluations=outcome.evaluations,
            seconds=outcome.seconds,
            finding=outcome.finding,
            reason=outcome.reason,
            traceback=outcome.traceback,
        )
        with uninterrupted():
            self._study.keep_probe(row)
            self._rows[row.key] = row
        self._tell()
        self._teach_whole_batch()

    def _begin(self) -> None:
        """Ask what is wanted until something has to be found out, or nothing new is wanted."""
        while fresh := self._wanted():
            self._batch = fresh
            self._queue = [probe for probe in fresh if not self._is_known(probe)]
            if self._queue:
                self._tell()
                return
            self._teach_whole_batch()

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
                curious.learn(probe, self._found(self._rows[probe.key()]))
        self._batch = []

    def _found(self, row: ProbeRow) -> Finding | None:
        return None if row.finding is None else finding_files.read(self._folder / row.finding)

    def _tell(self) -> None:
        done = len(self._batch) - len(self._queue) - len(self._out)
        for listener in self._listeners:
            listener.probing(done, len(self._batch))
