"""Kill -9, Ctrl-C and a scheduler's SIGTERM half way: the same command ends with the total."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.study.ledger import StudyRows
from search.study.reading import read_rows

DRIVER = Path(__file__).with_name("tiny_driver.py")
TRIALS = 6
PATIENCE = 600.0  # only who hangs takes it


def start(folder: Path, engine: str, workers: int = 2) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(DRIVER), str(folder), engine, str(TRIALS), str(workers)]
    environment = {**os.environ, "PAREDOWN_TEST_STUDY": str(folder)}
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def rows(folder: Path) -> StudyRows | None:
    try:
        return read_rows(f"sqlite:///{folder / 'study.db'}", "study")
    except UserError:  # not there yet
        return None


def until(what: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)


def finished_and_running(folder: Path, least: int) -> Callable[[], bool]:
    def look() -> bool:
        found = rows(folder)
        states = [row.state for row in found.trials] if found else []
        return states.count("complete") >= least and "running" in states

    return look


LINGER = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")  # a minute, after their cluster's kill


def processes_of(folder: Path) -> list[int]:
    """Every process that was started with this study's environment, and could hold work."""
    mark = f"PAREDOWN_TEST_STUDY={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
                if ours and not (entry / "cmdline").read_bytes().startswith(LINGER):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("local", [(signal.SIGKILL, 1), (signal.SIGTERM, 3)]),
        ("ray", [(signal.SIGKILL, 1), (signal.SIGINT, 3)]),
    ],
)
def test_the_same_command_ends_with_the_total(
    engine: str, kills: list[tuple[signal.Signals, int]], tmp_path: Path
) -> None:
    told: dict[int, object] = {}
    gate = tmp_path / "gate"
    gate.mkdir()
    for how, after in kills:
        for ticket in range(len(told), after):  # so many trials end, and the next are on their way
            (gate / str(ticket)).touch()
        driver = start(tmp_path, engine)
        until(finished_and_running(tmp_path, after))
        os.kill(driver.pid, how)
        assert driver.wait(PATIENCE) != 0
        until(lambda: not processes_of(tmp_path), 120)  # no worker outlives its driver
        found = rows(tmp_path)
        assert found is not None
        if how != signal.SIGKILL:
            assert "running" not in [row.state for row in found.trials]
        told.update({row.number: row for row in found.complete()})

    shutil.rmtree(gate)
    driver = start(tmp_path, engine, workers=1)
    assert driver.wait(PATIENCE) == 0, (tmp_path / "driver.log").read_text()
    found = rows(tmp_path)
    assert found is not None
    assert [row.state for row in found.trials] == ["complete"] * TRIALS
    assert [row.number for row in found.trials] == list(range(TRIALS))
    assert {n: found.trials[n] for n in told} == told  # nothing told was lost or told again
    assert all((tmp_path / str(row.artifact)).is_file() for row in found.trials)
