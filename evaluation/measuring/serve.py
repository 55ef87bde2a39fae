"""The process in which files are opened, answered and timed; `child` is its other end.

It imports the opener's module and little else, answers one request after another, and ends when
the process that started it does, even from the middle of a request. Whatever a request raises
goes back as words. Knows no limits but one: an alarm ends it long after a request should have
been over, should nobody be left to do so.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from compressors.errors import UserError
from evaluation.costs.counters import joules_of
from evaluation.measuring import wire
from evaluation.measuring.limits import peak, reset_peak
from evaluation.measuring.operators import Operator, Price, PricesOperators
from evaluation.measuring.runner import Array, Opener, Runner
from evaluation.measuring.sampling import Block, Effort, take

PEAK_CALLS = 3
FIRST_TO_GO = "1000"  # the kernel's choice where memory runs out: this, before who started it


@dataclass(frozen=True)
class Request:
    """A method of `Served` and what it is given; an alarm rings after so many seconds."""

    name: str
    args: tuple[Any, ...]
    alarm: float
    dropped: tuple[int, ...] = ()  # open files that nobody has a use for


@dataclass(frozen=True)
class Failure:
    """What a request raised."""

    said: str
    by_user: bool
    traceback: str


class Served:
    """The files that are open here, by number."""

    def __init__(self) -> None:
        self._numbers = count()
        self._files: dict[int, Runner] = {}
        self._opener: Opener | None = None

    def start(self, opener: bytes) -> None:
        """Load the opener, and with it the runtime."""
        self._opener = pickle.loads(opener)

    def open(self, path: Path) -> int:
        """Open a file to be answered."""
        number = next(self._numbers)
        self._files[number] = self._runner(path)
        return number

    def run(self, number: int, args: Sequence[Array]) -> Array:
        """An open file's first output."""
        return self._files[number].run(*args)

    def close(self, numbers: Sequence[int]) -> None:
        """Let go of open files."""
        for number in numbers:
            self._files.pop(number, None)

    def time(self, paths: Sequence[Path], batch: int, effort: Effort) -> Block:
        """Open files anew and time them once, in turns."""
        with _on_one_core(self._opener):
            return take([self._runner(path).call(batch) for path in paths], effort)

    def energy(self, path: Path, batch: int, seconds: float) -> float | None:
        """Millijoules that one sample draws, by the machine's counters; None where it has none."""
        drawn = joules_of(self._runner(path).call(batch), seconds)
        return None if drawn is None else drawn.energy(batch).value

    def operators(self, path: Path, batch: int) -> tuple[Operator, ...]:
        """What the runtime makes of a file."""
        return self._pricing().operators(path, batch)

    def prices(self, path: Path, batch: int, keys: Sequence[str], beside: Path) -> dict[str, Price]:
        """What some of a file's operators take."""
        with _on_one_core(self._opener):
            return self._pricing().prices(path, batch, keys, beside)

    def peak(self, path: Path, batch: int) -> int | None:
        """Bytes that this process holds at most while it opens and runs one file, beyond before."""
        before = reset_peak()
        call = self._runner(path).call(batch)
        for _ in range(PEAK_CALLS):
            call()
        return None if before is None else max(0, peak() - before)

    def _pricing(self) -> PricesOperators:
        return cast("PricesOperators", self._opener)

    def _runner(self, path: Path) -> Runner:
        assert self._opener is not None
        return self._opener(path)


def main(handle: int) -> None:
    """Serve the socket until its other end is closed."""
    pipe = socket.socket(fileno=handle)
    _settle(pipe)
    served = Served()
    while True:
        try:
            request: Request = wire.receive(pipe)
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_REAL, request.alarm)
        answer = _answer(served, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        wire.send(pipe, answer)


def _answer(served: Served, request: Request) -> Any:
    try:
        served.close(request.dropped)
        return getattr(served, request.name)(*request.args)
    except Exception as error:
        by_user = isinstance(error, UserError)
        lines = str(error).strip().splitlines() or ["no message"]
        said = str(error) if by_user else f"{type(error).__name__}: {lines[0].rstrip('.')}"
        return Failure(said, by_user, traceback.format_exc())


@contextmanager
def _on_one_core(opener: Opener | None) -> Iterator[None]:
    """What has one thread stays on one core, where the system can: it is spared every move.

    More threads are left to the system, for two cores may be halves of one.
    """
    if getattr(opener, "threads", None) != 1 or sys.platform != "linux":
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _settle(pipe: socket.socket) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is no matter for a debugger
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()


def _end_with_parent(pipe: socket.socket) -> None:
    """Wait for the other end to close, then end this process and what it started."""
    watch = select.poll()
    watch.register(pipe, 0)  # no event but the end
    watch.poll()
    os.killpg(0, signal.SIGKILL)
