"""Timings are alone among those who keep the agreement, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import pytest

from evaluation.measuring import quiet

WORKER = """
import sys, time
from evaluation.measuring import quiet
with quiet.busy():
    print("in", flush=True)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        time.sleep(0.005)
        {step}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def worker(step: str) -> subprocess.Popen[str]:
    code = WORKER.format(step=step)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_alone_pauses_a_worker_in_another_process(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    ticks.touch()
    process = worker(f"quiet.pause_point(); open({str(ticks)!r}, 'a').write('x')")
    try:
        with quiet.alone():
            time.sleep(0.05)
            before = ticks.stat().st_size
            time.sleep(0.3)
            assert ticks.stat().st_size == before
        deadline = time.monotonic() + 60
        while ticks.stat().st_size == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ticks.stat().st_size > before
    finally:
        process.kill()
        process.wait()


def test_a_killed_worker_holds_nobody_back() -> None:
    process = worker("pass")
    entered = threading.Event()

    def wait_alone() -> None:
        with quiet.alone():
            entered.set()

    thread = threading.Thread(target=wait_alone)
    thread.start()
    assert not entered.wait(0.3), "the worker makes no pause, so nobody may be alone yet"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert entered.wait(60)
    thread.join()


@pytest.mark.parametrize("hold", [quiet.busy, quiet.alone])
def test_a_child_forked_meanwhile_keeps_no_lock(
    hold: Callable[[], AbstractContextManager[None]],
) -> None:
    """As a data loader's workers are, which outlive the work that they were started in."""
    with hold():
        child = os.fork()
        if child == 0:
            time.sleep(300)
            os._exit(0)
    entered = threading.Event()

    def wait_alone() -> None:
        with quiet.alone():
            entered.set()

    thread = threading.Thread(target=wait_alone)
    try:
        thread.start()
        assert entered.wait(60)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        thread.join()


def test_alone_within_busy_lets_go_and_takes_the_lock_again() -> None:
    with quiet.busy(), quiet.busy():
        with quiet.alone(), quiet.alone(), quiet.busy():
            quiet.pause_point()
        assert quiet._mine.work is not None
    assert quiet._mine.work is None


def test_two_timings_never_overlap() -> None:
    inside, most = 0, 0

    def time_alone() -> None:
        nonlocal inside, most
        for _ in range(5):
            with quiet.busy(), quiet.alone():
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    threads = [threading.Thread(target=time_alone) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert most == 1


def test_a_pause_point_costs_microseconds() -> None:
    with quiet.busy():
        took = []
        for _ in range(200):
            start = time.perf_counter()
            quiet.pause_point()
            took.append(time.perf_counter() - start)
    assert median(took) < 1e-3
