"""The process at the other end of the local engine's pipe."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from search.driver.trial_job import Broken, WorkerSpec
from search.driver.worker import load, run_job

LOG = "workers.log"  # in the study's folder: whatever workers and users' code in them print


@dataclass(frozen=True)
class Ready:
    """The worker has built its evaluator."""


def work(pipe: Connection, spec: WorkerSpec) -> None:
    """Build the evaluator, then evaluate each job that comes, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(Path(spec.folder) / LOG)
    evaluator = load(spec)
    if isinstance(evaluator, Broken):
        pipe.send(evaluator)
        return
    pipe.send(Ready())
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(run_job(evaluator, job, Path(spec.folder)))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _print_to(path: Path) -> None:
    """Send what is printed to a file, as the driver's terminal shows its progress."""
    sys.stdout.flush()
    sys.stderr.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
