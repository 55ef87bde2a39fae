"""One worker process as the local engine sees it: given a job, asked for its outcome, replaced."""

from __future__ import annotations

import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from search.driver.interrupts import ctrl_c_ignored
from search.driver.trial_job import Broken, Job, JobOutcome, WorkerSpec
from search.engines.base import WorkerBroken, broken
from search.engines.local_worker import LOG, Ready, work

PATIENCE = 5.0  # seconds that a worker is given to end by itself


class WorkerProcess:
    """A process with at most one job. A dead one is started anew, its job failed."""

    def __init__(self, context: SpawnContext, spec: WorkerSpec) -> None:
        self._context = context
        self._spec = spec
        self.job: Job | None = None
        self._start()

    def _start(self) -> None:
        self._ready = False
        self._pipe: Connection
        self._pipe, theirs = self._context.Pipe()
        self._process: SpawnProcess = self._context.Process(target=work, args=(theirs, self._spec))
        with ctrl_c_ignored():  # inherited: it is the driver's to handle, from the first moment
            self._process.start()
        theirs.close()  # or the end of the process would not close the pipe

    def handles(self) -> list[Connection | int]:
        """What to wait for: a message, or the end of the process."""
        return [self._pipe, self._process.sentinel]

    def give(self, job: Job) -> None:
        """Hand over a job; it waits in the pipe while the worker builds its evaluator."""
        self.job = job
        with suppress(OSError):  # it is dead: `outcome` finds that out and fails the job
            self._pipe.send(job)

    def outcome(self) -> JobOutcome | None:
        """What came of the job, once something has."""
        while self._pipe.poll():
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                break
            if isinstance(message, JobOutcome):
                self.job = None
                return message
            self._heed(message)
        if self._process.is_alive():
            return None
        return self._replace()

    def dismiss(self, *, at_once: bool) -> None:
        """Let the process end: by itself once it sees the pipe closed, or at once."""
        self._pipe.close()
        if at_once:
            self._process.terminate()

    def join(self) -> None:
        """Wait for the end of the process, and bring it about where it does not come."""
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _heed(self, message: Ready | Broken) -> None:
        if isinstance(message, Ready):
            self._ready = True
        else:
            raise broken(message)

    def _replace(self) -> JobOutcome | None:
        self._process.join()
        end = _in_words(self._process.exitcode)
        if not self._ready:
            log = Path(self._spec.folder) / LOG
            raise WorkerBroken(f"A worker {end} while it loaded its task and target; see {log}.")
        lost, self.job = self.job, None
        self._pipe.close()
        self._start()
        return None if lost is None else JobOutcome(lost.number, reason=f"The worker {end}.")


def _in_words(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), most likely as the machine ran out of memory"
    if code is not None and code < 0:
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"
