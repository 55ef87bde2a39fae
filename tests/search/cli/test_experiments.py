"""Every experiment by name, at its smallest; the smoke experiment runs in `test_commands`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.targets.storage.storage import Storage
from search.cli.main import main
from search.study.reading import read_rows

KNOBS = {"bits_resnet20": 22, "bits_mobilenet": 35, "joint_resnet20": 31}
TINY = "tiny_resnet20"
INLINE = ("engine._target_=tests.search.searches.InlineEngine", "~engine.workers")
SMALLEST = ("task.epochs=1", "budget.evaluations=3", "sampler=random", "tracking=none")


@pytest.mark.parametrize("name", KNOBS)
def test_an_experiment_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Storage, "untimed", "no latency is asked for here", raising=False)
    assert main(["search", f"experiment={name}", *SMALLEST, *INLINE]) == 0
    study = f"{name}-random"
    folder = tmp_path / "outputs" / study
    rows = read_rows(f"sqlite:///{folder / 'study.db'}", study)
    assert [len(trial.params) for trial in rows.trials] == [KNOBS[name]] * 2
    front = json.loads((folder / "front.json").read_text())
    assert front["cost"]["evaluations"] == 3  # the uncompressed model's is one
    assert front["reference_point"] == [1.0, 0.26]
    assert front["hypervolume_unit"] == "reference box"
    assert 0 <= front["hypervolume"] < 1


def test_the_tiny_one_trains_and_leaves_out_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Storage, "untimed", "no latency is asked for here", raising=False)
    words = ("target=storage", "objectives=[quality,size_bytes]", "space.recovery.epochs=[0,1]")
    assert main(["search", f"experiment={TINY}", *words, *SMALLEST, *INLINE]) == 0
    names = set(read_rows(f"sqlite:///outputs/{TINY}/study.db", TINY).trials[0].params)
    assert {"recovery/epochs", "layer1.0/remove"} <= names
