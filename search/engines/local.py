"""Runs trials in persistent worker processes on this machine.

A worker that dies fails the trial it had and is replaced. Workers end with this process, however
it ends. Knows nothing of studies.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import wait

from compressors.errors import UserError
from search.driver.trial_job import WorkerSpec
from search.engines.base import JobSource
from search.engines.local_process import WorkerProcess


class LocalEngine:
    """N worker processes; each is started once and evaluates many trials."""

    def __init__(self, workers: int = 2) -> None:
        if workers < 1:
            raise UserError(f"engine.workers cannot be {workers}; valid: a whole number from 1.")
        self.workers = workers

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain."""
        context = multiprocessing.get_context("spawn")
        crew: list[WorkerProcess] = []
        orderly = False
        try:
            crew += [
                WorkerProcess(context, spec) for _ in range(min(self.workers, source.remaining()))
            ]
            while source.remaining():
                for worker in crew:
                    if worker.job is None and (job := source.next_job()) is not None:
                        worker.give(job)
                if source.remaining():
                    _finish_some(crew, source)
            orderly = True
        finally:
            _end(crew, orderly=orderly)


def _finish_some(crew: Sequence[WorkerProcess], source: JobSource) -> None:
    """Wait until something comes from a worker, and pass on what it is."""
    wait([handle for worker in crew for handle in worker.handles()])
    for worker in crew:
        outcome = worker.outcome()
        if outcome is not None:
            source.finish(outcome)


def _end(crew: Sequence[WorkerProcess], *, orderly: bool) -> None:
    for worker in crew:
        worker.dismiss(at_once=not orderly)
    for worker in crew:
        worker.join()
