"""Runs searches on a virtual clock, with results from a recorded study or from a formula.

Nothing is compressed, trained or measured, and no worker process is started: so many workers take
the jobs in turn, each for the seconds that it would take, and the clock jumps from one end to the
next. The same search gives the same trials in the same order. Samplers, early stopping and what a
thousand workers do to them are compared so; figures of models never are, and every view of a
simulated study says that it is one. See `search.simulation` for the results.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compressors.errors import UserError
from compressors.policies import policy_yaml
from compressors.structures.structure import Structure
from evaluation.fidelity import Fidelity
from evaluation.measurement import Metric
from evaluation.probing.probe import Probe
from search.driver.trial_job import Job, JobOutcome, WorkerSpec
from search.engines.base import JobSource
from search.simulation.table import Result, Table, Unknown

PROBE_SECONDS = 1.0  # of a probe that takes no evaluations at all
NOTE = "simulated"  # in the record of every trial: what its results are


@dataclass
class SimulatedEngine:
    """A virtual machine of so many workers; `elapsed` is its clock after a run, in seconds."""

    workers: int = 2
    study: str | None = None  # the folder of a recorded study; None: a formula
    unheld: Literal["fail", "nearest"] = "fail"  # what becomes of policies not in the record
    seed: int = 0  # of the formula
    seconds: float = 10.0  # of an evaluation by the formula, without training

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"engine.workers cannot be {self.workers}; valid: a number from 1.")
        if not self.seconds > 0:
            raise UserError(f"engine.seconds cannot be {self.seconds}; valid: above 0.")
        self.elapsed = 0.0
        self._table: Table | None = None
        self._trained: dict[int, float] = {}  # seconds, by trial
        self._known: dict[tuple[str, Fidelity], Result] = {}  # reading a policy takes longest

    def simulate(self, structure: Structure, quality: Metric) -> str:
        """Make the table of results for a search; what it is, in words."""
        self._known.clear()
        self.elapsed = 0.0
        if self.study is None:
            from search.simulation.formula import Formula

            self._table = Formula(structure, quality, self.seed, self.seconds)
        else:
            from search.simulation.opening import recorded

            self._table = recorded(Path(self.study), quality, self.unheld)
        return self._table.words

    def price(self, probe: Probe) -> float:
        """What a probe will take, in evaluations."""
        return self._made.price(probe)

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain."""
        table = self._made
        ends: list[tuple[float, int, JobOutcome]] = []
        started = 0
        self.elapsed = 0.0
        self._trained.clear()
        while source.remaining():
            while len(ends) < self.workers and (job := source.next_job()) is not None:
                outcome = self._outcome(table, job, Path(spec.folder))
                heapq.heappush(ends, (self.elapsed + outcome.seconds, started, outcome))
                started += 1
            if not ends:
                raise RuntimeError("jobs remain, but none is running and none is given out")
            self.elapsed, _, outcome = heapq.heappop(ends)
            source.finish(outcome)

    @property
    def _made(self) -> Table:
        if self._table is None:
            raise RuntimeError("simulate() makes the table of results, and comes first")
        return self._table

    def _outcome(self, table: Table, job: Job, folder: Path) -> JobOutcome:
        try:
            if job.probe is not None:
                return self._probed(table, job, folder)
            return self._evaluated(table, job)
        except Unknown as unknown:
            return JobOutcome(job.number, reason=str(unknown))

    def _evaluated(self, table: Table, job: Job) -> JobOutcome:
        asked = (job.policy, Fidelity(job.share, job.epochs))
        if asked not in self._known:
            self._known[asked] = table.result(policy_yaml.load(job.policy), asked[1])
        found = self._known[asked]
        trained = self._trained.get(job.number, 0.0)  # an earlier rung's training is gone on with
        self._trained[job.number] = max(trained, found.training)
        return JobOutcome(
            number=job.number,
            measurement=found.measurement.to_json(),
            record={**found.record, NOTE: table.words},
            seconds=found.seconds + max(0.0, found.training - trained),
            evaluations=found.evaluations,
        )

    def _probed(self, table: Table, job: Job, folder: Path) -> JobOutcome:
        from evaluation.probing import finding_files

        probe = Probe.from_json(job.probe or {})
        found = table.finding(probe)
        path = finding_files.path_of(folder, probe.key())
        finding_files.write(path, found)
        return JobOutcome(
            number=job.number,
            seconds=PROBE_SECONDS + self.seconds * found.evaluations,
            evaluations=found.evaluations,
            finding=str(path.relative_to(folder)),
        )
