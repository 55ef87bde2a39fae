"""A process of its own for each opener, started at first use and again after it died.

A runtime that hangs, crashes, raises or takes too much memory ends its process, or the request,
with a `MeasurementError`; the next request finds a fresh process. An opener travels by pickle, so
its class lies at the top of a module that the other process can import: the module path here is
handed on. Who asks holds `quiet`'s agreement; the other process knows nothing of it.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from compressors.errors import UserError
from evaluation.measuring import wire
from evaluation.measuring.limits import MEGABYTE, Limits, MeasurementError, resident
from evaluation.measuring.runner import Opener
from evaluation.measuring.serve import Failure, Request

START = """import sys
sys.path[:] = sys.argv[2:]
from evaluation.measuring.serve import main
main(int(sys.argv[1]))"""
START_SECONDS = 60.0  # at least, to import a runtime, which is no file's fault
LOOK = 0.1  # seconds between two looks at what the process uses
GRACE = 30.0  # seconds after the limit in which whoever asked must have ended it
KEPT = 2  # idle processes


class Child:
    """The process, while it lives; one request at a time."""

    def __init__(self, opener: bytes, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._pipe, theirs = socket.socketpair()
        self._pipe.settimeout(LOOK)
        words = [sys.executable, "-c", START, str(theirs.fileno()), *sys.path]
        with theirs:
            self._process = subprocess.Popen(
                words,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a runtime prints is no output of ours
                start_new_session=True,  # Ctrl-C is for whoever started it
            )
        self._dropped: deque[int] = deque()
        try:
            starting = replace(limits, seconds=max(limits.seconds, START_SECONDS))
            self.ask("start", opener, limits=starting, about=" starting")
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, name: str, *args: Any, limits: Limits, about: str = "") -> Any:
        """The answer of a method of `serve.Served`; `about` names the file in what may go wrong."""
        with self._lock:
            try:
                dropped = tuple(self._dropped.popleft() for _ in range(len(self._dropped)))
                request = Request(name, args, limits.seconds + GRACE, dropped)
                answer = self._talk(request, limits, about)
            except BaseException:  # what was half said cannot be gone on with
                self.end()
                raise
        if not isinstance(answer, Failure):
            return answer
        if answer.by_user:
            raise UserError(answer.said)
        raise MeasurementError(f"The runtime failed{about}: {answer.said}.") from Remote(
            answer.traceback
        )

    def drop(self, number: int) -> None:
        """Have an open file closed with the next request; safe at any moment, as in a finalizer."""
        self._dropped.append(number)

    def end(self) -> None:
        """Kill it and whatever it started, and wait until it is gone."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def end_if_idle(self) -> bool:
        """Whether nobody was asking, so that it could be ended."""
        idle = self._lock.acquire(blocking=False)
        if idle:
            self.end()
            self._lock.release()
        return idle

    def _talk(self, request: Request, limits: Limits, about: str) -> Any:
        deadline = time.monotonic() + limits.seconds

        def look() -> None:
            held = resident(self._process.pid)
            if held is not None and held > limits.memory_bytes:
                raise MeasurementError(
                    f"The runtime took {held // MEGABYTE} MB of memory{about}, more than "
                    f"{limits.memory_bytes // MEGABYTE} MB; target.memory_mb is the limit."
                )
            if time.monotonic() > deadline:
                raise MeasurementError(
                    f"The runtime gave no answer within {limits.seconds:g} s{about}; "
                    "target.timeout_s is the limit."
                )

        try:
            wire.send(self._pipe, request, look)
            return wire.receive(self._pipe, look)
        except (EOFError, OSError) as error:
            raise MeasurementError(f"The runtime {self._end_in_words()}{about}.") from error

    def _end_in_words(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its end"
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL), most likely as the machine ran out of memory,"
        if code < 0:
            return f"crashed ({signal.Signals(-code).name})"
        return f"ended its process (exit code {code})"


class Remote(Exception):
    """A traceback from the other process, as the cause of what is raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


_children: OrderedDict[tuple[int, bytes], Child] = OrderedDict()  # the last used is the last
_changing = threading.RLock()


def child_of(opener: Opener, limits: Limits) -> Child:
    """This process's child for an opener; of other openers only the last few are kept."""
    if type(opener).__module__ == "__main__":
        raise UserError(
            f"The opener {type(opener).__name__} lies in the script that runs; files are opened in "
            "another process, so put it into a module of its own."
        )
    key = (os.getpid(), pickle.dumps(opener))
    with _changing:
        child = _children.pop(key, None)
        if child is None or not child.alive:
            child = Child(key[1], limits)
        _children[key] = child
        _end_others(key)
    return child


def _end_others(key: tuple[int, bytes]) -> None:
    mine = [other for other in _children if other[0] == key[0] and other != key]
    for other in mine[: max(0, len(mine) + 1 - KEPT)]:
        if _children[other].end_if_idle():
            del _children[other]


@atexit.register
def end_all() -> None:
    """End this process's children, those of a process that was forked from none."""
    for (owner, _), child in list(_children.items()):
        if owner == os.getpid():
            child.end()
