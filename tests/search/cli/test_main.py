"""The command line as a whole: what is shown, how fast, with which exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from search.cli import main as cli
from search.cli.main import COMMANDS, main
from tests.conftest import Paredown

SECONDS = 0.6


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_overview_is_there_at_once(words: tuple[str, ...], paredown: Paredown) -> None:
    took = []
    for _ in range(3):
        started = time.perf_counter()
        done = paredown(*words)
        took.append(time.perf_counter() - started)
        assert done.returncode == 0
        assert all(name in done.stdout for name in COMMANDS)
    assert min(took) < SECONDS, took


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(import_module(f"search.cli.commands.{name}").run)
    assert main([name, "--help"]) == 0
    assert f"paredown {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("paredown 0.")


def test_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_command", interrupted)
    assert main(["search"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_command", broken)
    with pytest.raises(ZeroDivisionError):
        main(["search"])


def test_cfg_job_prints_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--cfg", "job", "budget.trials=7", "task=digits_mlp"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["budget"]["trials"] == 7
    assert printed["task"]["name"] == "digits_mlp"
    assert not list(tmp_path.iterdir())


def test_cfg_job_refuses_what_a_search_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--cfg", "job", "budget.trials=many"]) == 2
    assert "budget.trials cannot be 'many'" in capsys.readouterr().err


def test_multirun_is_one_study_a_job(tmp_path: Path, paredown: Paredown) -> None:
    words = ("experiment=smoke", "target=npu_sim", "sampler=random,qmc", "budget.trials=1")
    done = paredown("search", "-m", *words, "tracking=none", "study.name=s-${sampler.name}")
    assert done.returncode == 0, done.stderr
    for name in ("s-random", "s-qmc"):
        assert (tmp_path / "outputs" / name / "front.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_multirun_with_a_wrong_job_runs_none(tmp_path: Path, paredown: Paredown) -> None:
    done = paredown("search", "-m", "experiment=smoke", "budget.trials=3,-3")
    assert done.returncode == 2
    assert "budget.trials cannot be -3" in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_cleanly_and_the_same_command_continues(
    tmp_path: Path, paredown: Paredown
) -> None:
    words = ["search", "experiment=smoke", "target=npu_sim", "budget.trials=5", "tracking=none"]
    words.append("space.recovery.epochs=[0,40]")  # long enough to be stopped on the way
    command = [str(Path(sys.executable).parent / "paredown"), *words]
    search = subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert search.stdout is not None
    for line in search.stdout:
        if line.startswith("[1/5]"):
            os.kill(search.pid, signal.SIGINT)
            break
    _, said = search.communicate(timeout=600)
    assert search.returncode == 130
    assert said.strip().endswith("paredown: stopped; the same command continues.")
    done = paredown(*words)
    assert done.returncode == 0, done.stderr
    assert "[5/5]" in done.stdout
