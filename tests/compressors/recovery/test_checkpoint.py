"""A recovery that was cut off goes on to the same last bit, and trusts no other's state."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compressors.policies.policy import Recovery
from compressors.recovery import checkpoint as files
from tests.compressors.recovery.networks import same
from tests.compressors.recovery.resumable import PAUSE, SETTINGS, STEPS, run
from tests.conftest import ROOT

LEARNED = replace(SETTINGS, scales="learned", optimizer="sgd", learning_rate=3e-3)


@cache
def uninterrupted(settings: Recovery = SETTINGS) -> tuple[nn.Module, tuple[float, ...]]:
    return run(None, settings)


class Cut(Exception):
    pass


class Steps:
    """Counts steps, and ends with an exception at one of them."""

    def __init__(self, last: int = STEPS + 1) -> None:
        self.done, self.last = 0, last

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.last:
            raise Cut


def cut_off(path: Path, last: int, settings: Recovery = SETTINGS) -> None:
    with pytest.raises(Cut):
        run(path, settings, on_step=Steps(last))


def check(path: Path, left: int, settings: Recovery = SETTINGS) -> None:
    """The run that goes on takes so many steps, and ends as if it had never stopped."""
    model, losses = uninterrupted(settings)
    steps = Steps()
    resumed, found = run(path, settings, on_step=steps)
    assert steps.done == left
    assert same(resumed, model)
    assert torch.equal(resumed.unsaved, model.unsaved)
    assert found == losses


@pytest.mark.parametrize("settings", [SETTINGS, LEARNED], ids=["adamw", "sgd-learned-scales"])
@pytest.mark.parametrize("last", [1, 6, 16])
def test_a_recovery_goes_on_where_its_last_epoch_ended(
    tmp_path: Path, last: int, settings: Recovery
) -> None:
    cut_off(tmp_path / "state", last, settings)
    check(tmp_path / "state", STEPS - (last - 1) // 4 * 4, settings)


def test_cut_off_again_and_again_it_ends_the_same(tmp_path: Path) -> None:
    for _ in range(3):
        cut_off(tmp_path / "state", 6)
    check(tmp_path / "state", 4)
    check(tmp_path / "state", 0)


@pytest.mark.parametrize("settings", [SETTINGS, LEARNED], ids=["adamw", "sgd-learned-scales"])
def test_ended_early_and_gone_on_with_it_ends_as_in_one_go(
    tmp_path: Path, settings: Recovery
) -> None:
    path = tmp_path / "state"
    for epochs in (1, 3):
        _, losses = run(path, settings, epochs=epochs)
        assert losses == uninterrupted(settings)[1][:epochs]
    check(path, STEPS - 3 * 4, settings)


def test_a_state_that_is_further_than_wanted_is_not_gone_on_from(tmp_path: Path) -> None:
    early, _ = run(None, epochs=1)
    run(tmp_path / "state", epochs=2)
    again, losses = run(tmp_path / "state", epochs=1)
    assert len(losses) == 1
    assert same(again, early)


def test_everything_that_is_kept_is_needed(tmp_path: Path) -> None:
    """The same test would fail if any part of the state were forgotten."""
    path, model = tmp_path / "state", uninterrupted()[0]
    cut_off(path, 10)
    state = torch.load(path, weights_only=True)
    fresh = tmp_path / "fresh"
    cut_off(fresh, 6)
    for part in ("model", "buffers", "extra", "optimizer", "generator"):
        torch.save({**state, part: torch.load(fresh, weights_only=True)[part]}, path)
        resumed, _ = run(path)
        assert not (same(resumed, model) and torch.equal(resumed.unsaved, model.unsaved)), part


def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    path, seed = tmp_path / "state", time.time_ns()
    command = [sys.executable, "-m", "tests.compressors.recovery.resumable", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0, 2) * STEPS * PAUSE)
        child.kill()
    model, losses = uninterrupted()
    resumed, found = run(path)
    assert same(resumed, model), f"seed {seed}"
    assert found == losses
    files.remove(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"stamp": "another policy's id"},
        {"seed": 4},
        {"settings": replace(SETTINGS, learning_rate=2e-2)},
        {"settings": replace(SETTINGS, scales="learned")},
    ],
    ids=["policy", "start", "settings", "scales"],
)
def test_the_state_of_another_training_is_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "state"
    cut_off(path, 10)
    steps = Steps()
    found, _ = run(path, on_step=steps, **change)
    assert steps.done == STEPS
    assert same(found, run(None, **change)[0])


def test_damaged_files_are_ignored(tmp_path: Path) -> None:
    path, chance = tmp_path / "state", random.Random(0)
    cut_off(path, 10)
    whole = path.read_bytes()
    assert files._read(path) is not None
    for length in [0, 1, 100, *(chance.randrange(len(whole)) for _ in range(30)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert files._read(path) is None
    for place in range(len(whole) // 3, len(whole) // 2, len(whole) // 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        state = files._read(path)
        assert state is None or same_tensors(state, whole, tmp_path / "whole")
    path.write_bytes(whole[: len(whole) // 2])
    check(path, STEPS)


def same_tensors(state: files.State, whole: bytes, path: Path) -> bool:
    """A byte of padding was hit."""
    path.write_bytes(whole)
    first, second = state["model"], (files._read(path) or {})["model"]
    return all(torch.equal(first[name], second[name]) for name in second)


def test_no_state_runs_code(tmp_path: Path) -> None:
    path, mark = tmp_path / "state", tmp_path / "mark"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(mark),)

    torch.save({"stamp": Evil()}, path)
    check(path, STEPS)
    assert not mark.exists()


def test_a_full_disk_is_noted_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

    path, notes = tmp_path / "state", []
    cut_off(path, 10)
    before = path.read_bytes()
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Full()))
    model, _ = run(path, note=notes.append)
    assert same(model, uninterrupted()[0])
    assert notes == [
        "A recovery's state could not be written (No space left on device): cut off, it would"
        " start again."
    ]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
