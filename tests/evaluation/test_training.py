"""A built-in model is trained once, whoever asks at once, and reaches the quality it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.tasks import digits_data
from evaluation.tasks.digits_mlp import DigitsMLP
from evaluation.tasks.digits_resnet20 import DigitsResNet20

ASK = """
import sys
from evaluation.tasks.digits_mlp import DigitsMLP
model = DigitsMLP(cache_dir=sys.argv[1], epochs=1, threads=1).model()
print(float(sum(p.double().sum() for p in model.parameters())))
"""


def test_two_processes_at_once_train_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    answers = [process.communicate(timeout=600) for process in processes]
    assert all(process.returncode == 0 for process in processes), answers
    assert answers[0][0] == answers[1][0] != ""
    assert sum("Training digits_mlp" in said for _, said in answers) == 1
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 1


def test_what_determines_a_model_names_its_file(tmp_path: Path) -> None:
    for wanted in ({"epochs": 1}, {"epochs": 2}, {"epochs": 1, "seed": 1}, {"epochs": 1}):
        DigitsMLP(cache_dir=str(tmp_path), threads=1, **wanted).model()
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 3


def test_digits_are_drawn_once_and_again_where_their_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[int] = []
    drawn = digits_data._drawn

    def counted(seed: int) -> dict[str, np.ndarray]:
        draws.append(seed)
        return drawn(seed)

    def batch(seed: int) -> torch.Tensor:
        task = DigitsMLP(cache_dir=str(tmp_path), seed=seed)
        return next(iter(task.batches("validation"))).args[0]

    monkeypatch.setattr(digits_data, "_drawn", counted)
    one, other = batch(0), batch(1)
    assert not torch.equal(one, other)
    assert torch.equal(batch(0), one)
    assert draws == [0, 1]
    for path in (tmp_path / "data").iterdir():
        path.write_bytes(path.read_bytes()[:-300])
    assert torch.equal(batch(0), one)
    assert torch.equal(batch(0), one)
    assert draws == [0, 1, 0]


def test_training_leaves_the_thread_count_and_random_state(tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state()
    DigitsMLP(cache_dir=str(tmp_path), epochs=1, threads=2).model()
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


@pytest.mark.parametrize(
    ("cls", "epochs", "accuracy"), [(DigitsResNet20, 8, 0.985), (DigitsMLP, 20, 0.97)]
)
def test_the_default_models_are_good(cls: type, epochs: int, accuracy: float) -> None:
    """By default both take 20 epochs; the convolutions are as good as promised long before."""
    task = cls(epochs=epochs)
    model = task.model()
    assert task.quality(model, "test").value <= 1 - accuracy
    assert task.quality(model, "validation").value <= 1 - accuracy
