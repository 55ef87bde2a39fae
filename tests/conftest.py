"""What every test gets: one thread, a cache of trained models of its own, and an honest skip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
Paredown = Callable[..., "subprocess.CompletedProcess[str]"]

settings.register_profile(  # no property is one of time, and a shared machine may pause
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported; child processes inherit it."""
    del config
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PAREDOWN_CACHE", str(ROOT / ".pytest_cache" / "paredown"))
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every child compiles all of ours anew
    with suppress(ValueError):  # not the main thread; a shell's background jobs ignore it
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With REQUIRE_ALL=1, as in .ci/run, a test that is skipped has failed."""
    outcome: Any = yield
    report = outcome.get_result()
    if os.environ.get("REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """Few samples of time, and predictions that rest on few files, where something else counts."""
    from dataclasses import replace

    from evaluation import evaluator
    from evaluation.measuring import files
    from evaluation.measuring.sampling import Effort

    few = Effort(runs=1, blocks=3, most=9, seconds=0.05, warm_seconds=0.05, burst_seconds=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "Effort", lambda: few)
        patch.setattr(files, "TOGETHER", replace(few, burst_least=0))
        patch.setattr(files, "SEARCH", replace(few, burst_least=0))
        patch.setattr(evaluator, "SAMPLES", 2)
        yield


@pytest.fixture
def paredown(tmp_path: Path) -> Paredown:
    """The installed command, run in an empty folder of its own as a user would."""

    def run(*words: str, cwd: Path = tmp_path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "paredown"), *words]
        options.setdefault("timeout", 1200)
        return subprocess.run(command, cwd=cwd, text=True, capture_output=True, **options)

    return run
