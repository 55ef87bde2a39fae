"""A training that is looked at on its way shows the mean of its last epoch's weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.policies.policy import Recovery, Scales
from compressors.recovery.conditions import Conditions
from compressors.recovery.mean import Mean
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher
from tests.compressors.recovery.networks import Staged, made, same
from tests.compressors.recovery.resumable import run
from tests.compressors.tiny import Images

SHORT = Recovery(epochs=4, learning_rate=1e-2, batch_size=16)
STEPS = 4  # of an epoch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_is_that_of_all_that_was_added(dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randn(500, 3, generator=chance).to(dtype)
    parameter = nn.Parameter(torch.zeros(3, dtype=dtype))
    mean = Mean([parameter])
    for values in (torch.full((3,), 9.0), *drawn):
        parameter.data.copy_(values)
        mean.add()
        if float(values[0]) == 9.0:
            mean.begin()
    mean.put_in()
    expected = drawn.double().mean(dim=0)
    assert torch.allclose(parameter.detach().double(), expected, atol=1e-3)


class Watched:
    """What a training's conditions are asked for, and the weights after every step."""

    def __init__(self, model: nn.Module, epochs: int | None) -> None:
        self.calls: list[str] = []
        self.weights: list[Tensor] = []
        self.conditions = Conditions(
            after_step=lambda: self.weights.append(model.fc.weight.detach().clone()),
            recalibrate=lambda: self.calls.append("ranges"),
            renew_norms=lambda: self.calls.append("norms"),
            freeze_scales=lambda: self.calls.append("freeze"),
            epochs=epochs,
        )


@pytest.mark.parametrize("scales", ["statistics", "fixed"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_ended_on_its_way_it_is_the_mean_of_the_last_epoch(epochs: int, scales: Scales) -> None:
    data, model = Images(), made(Staged)
    seen = Watched(model, epochs)
    with torch.random.fork_rng(devices=[]):
        teacher = Teacher(made(Staged), data)
        recover(model, data, replace(SHORT, scales=scales), teacher, seen.conditions)
    assert len(seen.weights) == epochs * STEPS
    last = torch.stack(seen.weights[-STEPS:]).double()
    assert torch.allclose(model.fc.weight.detach().double(), last.mean(dim=0), atol=1e-6)
    assert not torch.allclose(model.fc.weight, seen.weights[-1], atol=1e-4)
    follows = scales == "statistics"
    on_the_way = ["ranges"] * min(epochs - 1, 2) if follows else []
    assert seen.calls == [*on_the_way, "norms", *(["ranges"] if follows else []), "freeze"]


@pytest.mark.parametrize("epochs", [None, 4, 0])
def test_in_the_end_and_before_the_start_it_is_the_weights_themselves(epochs: int | None) -> None:
    data, model = Images(), made(Staged)
    before, seen = model.fc.weight.detach().clone(), Watched(model, epochs)
    with torch.random.fork_rng(devices=[]):
        recover(model, data, SHORT, Teacher(made(Staged), data), seen.conditions)
    assert torch.equal(model.fc.weight, [before, *seen.weights][-1])
    assert "norms" not in seen.calls


def test_looked_at_again_it_shows_the_same(tmp_path: Path) -> None:
    """Killed after the last epoch was kept and before anybody was told of it."""
    path, steps = tmp_path / "state", []
    first, losses = run(path, epochs=2)
    again, found = run(path, epochs=2, on_step=lambda: steps.append(1))
    assert not steps
    assert same(first, again)
    assert found == losses


def test_a_state_without_its_mean_begins_anew(tmp_path: Path) -> None:
    path, steps = tmp_path / "state", []
    first, _ = run(path, epochs=2)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "mean": []}, path)
    again, _ = run(path, epochs=2, on_step=lambda: steps.append(1))
    assert len(steps) == 2 * STEPS
    assert same(first, again)


def test_a_mean_that_was_shown_is_none_of_a_later_epoch(tmp_path: Path) -> None:
    """Epoch 1 was shown, epoch 2 kept on the way to showing 3: asked for 2, it begins anew."""
    path = tmp_path / "state"
    run(path, epochs=1)
    steps: list[int] = []

    def cut() -> None:
        steps.append(1)
        if len(steps) == STEPS + 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(path, epochs=3, on_step=cut)
    again, _ = run(path, epochs=2)
    assert same(again, run(None, epochs=2)[0])


class Noisy:
    """A line through many noisy points."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(512, 8, generator=chance)
        self.line = torch.randn(8, 1, generator=chance)
        noise = torch.randn(512, 1, generator=chance)
        self.targets = self.inputs @ self.line + noise

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        order = torch.arange(512)
        if seed is not None:
            order = torch.randperm(512, generator=torch.Generator().manual_seed(seed))
        for part in order.split(batch_size or 64):
            yield Batch((self.inputs[part],), self.targets[part], part)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_nearer_to_the_end_than_the_weights_themselves(tmp_path: Path, seed: int) -> None:
    data, path = Noisy(), tmp_path / "state"
    settings = Recovery(epochs=8, learning_rate=0.05, batch_size=8, weight=0.0, optimizer="sgd")
    settings = replace(settings, seed=seed)
    model = made(nn.Linear, 8, 1)
    conditions = Conditions(epochs=2, checkpoint=path)
    with torch.random.fork_rng(devices=[]):
        recover(model, data, settings, Teacher(made(nn.Linear, 8, 1), data), conditions)
    weights = torch.load(path, weights_only=True)["model"]["weight"]
    shown = (model.weight.detach() - data.line.T).norm()
    assert float(shown) < 0.6 * float((weights - data.line.T).norm())
