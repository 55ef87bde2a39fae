"""A runtime that adds a number to its input, or goes wrong as its file's text says.

A module of its own that imports little, as an opener's is.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressors.errors import UserError
from evaluation.measuring.runner import Array

OPENED = itertools.count()
HANGS_S = 600  # longer than any test waits


@dataclass(frozen=True)
class BadOpener:
    """Opens text files that hold a number, or a word for what goes wrong."""

    name: str = "bad"
    threads: int = 1

    def __call__(self, path: Path) -> BadRunner:
        if not path.is_file():
            raise UserError(f"There is no model file '{path}'.")
        word = path.read_text()
        if word == "hang at open":
            time.sleep(HANGS_S)
        return BadRunner(path, word)


@dataclass(frozen=True)
class BadRunner:
    """Runs, and says in its answers in which process."""

    path: Path
    word: str

    def run(self, *args: Array) -> Array:
        goes_wrong(self.path, self.word)
        if self.word == "process":
            return np.array([os.getpid(), "torch" in sys.modules])
        return np.asarray(args[0] + float(self.word))

    def call(self, batch: int) -> Callable[[], object]:
        goes_wrong(self.path, self.word)
        if self.word == "moody":  # every second one that is opened takes twice as long
            seconds = 1e-3 * (1 + next(OPENED) % 2)
            return lambda: time.sleep(seconds)
        values = np.zeros(batch) if self.word != "20 MB" else np.ones(20 << 17)
        return lambda: values + 1


def goes_wrong(path: Path, word: str) -> None:
    if word == "hang":
        started = subprocess.Popen(["sleep", str(HANGS_S)])
        path.with_suffix(".started").write_text(str(started.pid))
        time.sleep(HANGS_S)
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit":
        os._exit(3)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "raise":
        raise RuntimeError("no kernel\nfor this")
    if word == "cores":
        path.with_suffix(".seen").write_text(str(len(os.sched_getaffinity(0))))
    if word == "memory":
        hoard = [np.ones(1 << 20) for _ in range(64)]
        time.sleep(HANGS_S + len(hoard))
