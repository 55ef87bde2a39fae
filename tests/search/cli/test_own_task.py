"""A user's own task: one class in one file, four lines of YAML, a folder outside the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests import in_process
from tests.conftest import Paredown

MY_TASK = """
import torch
from sklearn.datasets import load_digits
from torch import nn

from compressors.data import Batch
from evaluation.measurement import Metric, Value


class Mine:
    name = "mine"
    metric = Metric("accuracy", "fraction", "maximize")

    def __init__(self, hidden: int = 32, seed: int = 0) -> None:
        self.hidden, self.seed = hidden, seed
        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(seed))
        self.inputs = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
        self.targets = torch.tensor(digits.target)[order]
        ends = {"train": (0, 900), "calibration": (900, 1000), "validation": (1000, 1300)}
        self.parts = {**ends, "test": (1300, 1797)}

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = nn.Sequential(
                nn.Linear(64, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10)
            )
            optimizer = torch.optim.Adam(model.parameters(), 1e-2)
            for epoch in range(3):
                for batch in self.batches("train", seed=epoch):
                    optimizer.zero_grad()
                    self.loss(model(*batch.args), batch.targets).backward()
                    optimizer.step()
        return model.eval()

    def batches(self, split, *, batch_size=None, seed=None):
        first, last = self.parts[split]
        ids = torch.arange(first, last)
        if seed is not None:
            ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
        for part in ids.split(batch_size or 100):
            yield Batch(self.inputs[part], self.targets[part], part)

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)

    def quality(self, predict, split, fraction=1.0):
        right = total = 0
        for batch in self.batches(split):
            right += int((predict(*batch.args).argmax(1) == batch.targets).sum())
            total += len(batch.targets)
        share = right / total
        return Value(self.metric, share, (share * (1 - share) / total) ** 0.5)
"""

YAML = """name: mine
_target_: my_task.Mine
hidden: 32
seed: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What such a user has, with a package of their own that is called as one of ours."""
    (tmp_path / "my_task.py").write_text(MY_TASK)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "mine.yaml").write_text(YAML)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "__init__.py").write_text("raise RuntimeError('shadowed')\n")
    return tmp_path


def test_it_is_searched_exported_and_resumed(folder: Path, hasty: None) -> None:
    words = ("search", "--config-dir", "conf", "task=mine", "sampler=random")
    words = (*words, "study.name=own", "space.recovery.epochs=[0,1]", "tracking=none")
    done = in_process.paredown(*words, "budget.trials=4", cwd=folder)
    assert done.returncode == 0, done.stderr
    front = json.loads((folder / "outputs" / "own" / "front.json").read_text())
    assert front["task"] == "mine"
    assert front["trials"] == {"complete": 4, "failed": 0, "stopped_early": 0}
    accuracy = front["objectives"][0]
    assert (accuracy["name"], accuracy["direction"]) == ("accuracy", "maximize")
    assert front["members"]
    config = yaml.safe_load((folder / "outputs" / "own" / "config.yaml").read_text())
    assert config["task"]["_target_"] == "my_task.Mine"

    again = in_process.paredown(*words, "budget.trials=4", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "Nothing is left to do" in again.stdout

    other = "space.prune.choices=[0.0,0.9]"
    changed = in_process.paredown(*words, "budget.trials=4", other, cwd=folder)
    assert changed.returncode == 2
    assert "0/channels" in changed.stderr
    assert config == yaml.safe_load((folder / "outputs" / "own" / "config.yaml").read_text())

    report = in_process.paredown("report", "own", cwd=folder)
    assert report.returncode == 0, report.stderr


def test_dry_run_prints_the_space_and_writes_nothing(folder: Path, paredown: Paredown) -> None:
    done = paredown("search", "-cd", "conf", "task=mine", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    for words in ("0/bits", "2/bits", "float, w8a8", "recovery/epochs", "combinations"):
        assert words in done.stdout
    assert not (folder / "outputs").exists()


def test_python_m_in_a_folder_that_shadows_us_says_so(folder: Path) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "search.cli.main", "doctor"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "The package 'evaluation' comes from" in done.stderr
    assert "Traceback" not in done.stderr
