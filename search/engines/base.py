"""What an engine is, and what it draws its jobs from.

Nothing above this line knows which engine runs; no engine knows of studies or storages.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from compressors.errors import UserError
from compressors.structures.structure import Structure
from evaluation.measurement import Metric
from evaluation.probing.probe import Probe
from search.driver.trial_job import Broken, Job, JobOutcome, WorkerSpec


class JobSource(Protocol):
    """Where jobs come from and outcomes go. Called from one thread at a time."""

    def next_job(self) -> Job | None:
        """The next job; None where there is none now (there may be, once one more is finished)."""
        ...

    def finish(self, outcome: JobOutcome) -> None:
        """Take what came of a job."""
        ...

    def remaining(self) -> int:
        """How many jobs at most are still to be finished, those in flight included."""
        ...


class Engine(Protocol):
    """Runs jobs in worker processes, each of which builds its evaluator once."""

    workers: int

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain. Whatever ends it early also ends every worker."""
        ...


@runtime_checkable
class Simulates(Protocol):
    """An engine that evaluates nothing; its studies say so, and are no others' continuation."""

    elapsed: float  # seconds of its own clock, from the run's beginning

    def simulate(self, structure: Structure, quality: Metric) -> str:
        """Make results for a model of this structure, before a run; what they are, in words."""
        ...

    def price(self, probe: Probe) -> float:
        """What a probe will take, in evaluations, once results are made."""
        ...


class WorkerBroken(Exception):
    """A worker that could not be built, for a reason that no other trial would escape."""


def broken(found: Broken) -> Exception:
    """The exception that ends a search whose workers cannot be built."""
    if found.by_user:
        return UserError(found.reason)
    return WorkerBroken(f"A worker could not load its task and target:\n{found.traceback}")
