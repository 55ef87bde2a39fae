"""Energy of a file by the machine's counters: a figure where there are any, else none."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.costs import counters as module
from evaluation.measuring.serve import Served

JOULES = 0.25


@dataclass
class Calls:
    """A runner that counts its calls, and a counter that draws so many joules for each."""

    made: int = 0
    name: str = "fake"

    def run(self, *args: Any) -> Any:
        return np.zeros(1)

    def call(self, batch: int) -> Any:
        def once() -> None:
            self.made += 1

        return once

    def joules(self) -> float:
        return self.made * JOULES

    def between(self, before: float, after: float) -> float:
        return after - before


CALLS = Calls()


@dataclass(frozen=True)
class Opener:
    """Opens anything."""

    def __call__(self, path: Path) -> Calls:
        return CALLS


def served() -> Served:
    made = Served()
    made.start(pickle.dumps(Opener()))
    return made


def test_energy_is_that_of_one_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "counters", lambda: [CALLS])
    found = served().energy(tmp_path / "m", 4, 0.02)
    assert found == pytest.approx(JOULES * 1e3 / 4)


def test_without_counters_there_is_no_energy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "counters", list)
    assert served().energy(tmp_path / "m", 4, 0.02) is None
