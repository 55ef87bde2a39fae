"""One machine-wide agreement: whoever times has the machine alone, whoever computes makes way.

Two lock files under the temporary folder of this user carry it, so it holds between unrelated
processes, and a process that dies lets go of its locks with it. Work is done inside `busy()` and
calls `pause_point()` often; timings are taken inside `alone()`, which waits until everybody in
`busy()` has reached a pause point or the end. It cannot hold back programs that know nothing of
it, nor containers with a temporary folder of their own. State is kept per thread.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _Mine(threading.local):
    """What this thread holds: the open work file, and how deep it is in `busy` and `alone`."""

    work: int | None = None
    busy: int = 0
    alone: int = 0


_mine = _Mine()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"paredown-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _open(name: str) -> int:
    return os.open(_folder() / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _close(handle: int) -> None:
    """Unlock, then close: a lock lives on while a forked child has it open."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


@contextmanager
def _flock(name: str, kind: int) -> Iterator[None]:
    handle = _open(name)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        _close(handle)


def _join() -> None:
    """Take the shared lock, behind any timing that waits or runs."""
    with _flock("gate", fcntl.LOCK_SH):
        _mine.work = _open("work")
        fcntl.flock(_mine.work, fcntl.LOCK_SH)


def _leave() -> None:
    if _mine.work is not None:
        _close(_mine.work)
        _mine.work = None


@contextmanager
def busy() -> Iterator[None]:
    """Compute in here; a timing waits until this ends or reaches a pause point."""
    if _mine.busy == 0 and _mine.alone == 0:
        _join()
    _mine.busy += 1
    try:
        yield
    finally:
        _mine.busy -= 1
        if _mine.busy == 0:
            _leave()


def pause_point() -> None:
    """Make way if a timing waits, and go on when it is done; a few microseconds otherwise."""
    if _mine.work is None:
        return
    handle = _open("gate")
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        _leave()
        _join()
    finally:
        _close(handle)


@contextmanager
def alone() -> Iterator[None]:
    """Have the machine to oneself among those who keep this agreement; may lie within `busy`."""
    if _mine.alone:
        yield
        return
    _leave()
    try:
        with _flock("gate", fcntl.LOCK_EX), _flock("work", fcntl.LOCK_EX):
            _mine.alone = 1
            try:
                yield
            finally:
                _mine.alone = 0
    finally:
        if _mine.busy:
            _join()
