"""What happens around the steps: masks, scales, widths of numbers, and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.policies.policy import Recovery, Scales
from compressors.recovery.conditions import Conditions
from compressors.recovery.divergence import RecoveryDiverged
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher
from tests.compressors.recovery.networks import Staged, made, recovered, same
from tests.compressors.tiny import Dense, Images, Residual

SHORT = Recovery(epochs=4, learning_rate=1e-2, batch_size=16)


def test_masks_hold_zeros_after_every_step() -> None:
    data, model = Images(), made(Residual)
    weight = model.layer1[0].conv1.weight
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    seen: list[bool] = []

    @torch.no_grad()
    def hold() -> None:
        weight.mul_(mask)

    conditions = Conditions(
        on_step=lambda: seen.append(bool((weight == 0).eq(~mask).all())), after_step=hold
    )
    hold()
    with torch.random.fork_rng(devices=[]):
        recover(model, data, SHORT, Teacher(made(Residual), data), conditions)
    assert seen == [True] * 16
    assert bool((weight == 0).eq(~mask).all())


@pytest.mark.parametrize("scales", ["statistics", "fixed", "learned"])
def test_scales_follow_what_they_see_or_stay_or_are_learned(scales: Scales) -> None:
    calls: list[str] = []
    conditions = Conditions(
        recalibrate=lambda: calls.append("recalibrate"),
        set_scales=lambda mode: calls.append(mode),
        freeze_scales=lambda: calls.append("freeze"),
    )
    recovered(made(Staged), Images(), replace(SHORT, scales=scales), None, conditions)
    again = ["recalibrate"] * 2 if scales == "statistics" else []
    assert calls == [scales, *again, "freeze"]


class Scaled(nn.Module):
    """Frozen for deployment, with a step that may be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = made(Staged).requires_grad_(False)
        self.step: Tensor | nn.Parameter = torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.step


def test_learned_scales_are_trained_beside_a_frozen_model_s_weights() -> None:
    data, model = Images(), Scaled()

    def set_scales(_: Scales) -> None:
        model.step = nn.Parameter(torch.tensor(0.5))

    with torch.random.fork_rng(devices=[]):
        conditions = Conditions(set_scales=set_scales)
        recover(model, data, SHORT, Teacher(made(Staged), data), conditions)
    assert float(model.step.detach()) != 0.5
    assert not torch.equal(model.inner.fc.weight, made(Staged).fc.weight)
    assert not any(parameter.requires_grad for parameter in model.inner.parameters())
    assert model.step.grad is None


class Wide(Images):
    """Notes in which type its loss is asked for."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        assert outputs.dtype == torch.float32
        return super().loss(outputs, targets)


def test_half_precision_models_stay_so_and_their_losses_are_float32() -> None:
    data = Wide(dtype=torch.bfloat16)
    student = made(Residual).to(torch.bfloat16)
    found, record = recovered(student, data, SHORT)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
    assert record.losses[-1] < record.losses[0]


class Exploding(Images):
    """Gradients without bounds at the very last batch; its loss is a number."""

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        self.last = seed == SHORT.epochs - 1
        self.count = 0
        yield from super().batches(split, batch_size=batch_size, seed=seed)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.count += 1
        return super().loss(outputs, targets) + self.burst(outputs)

    def burst(self, outputs: Tensor) -> Tensor:
        if not (self.last and self.count == 4):
            return outputs.new_zeros(())
        return (outputs.sum() - outputs.sum().detach()).abs().sqrt()  # 0, of infinite slope


def test_weights_that_are_no_numbers_after_the_last_batch_are_found() -> None:
    with pytest.raises(RecoveryDiverged, match=r"'.*' became nan in epoch 4 of 4 \(learning rate"):
        recovered(made(Dense), Exploding(flat=True), replace(SHORT, weight=0.0))


class Overflowing(Dense):
    """Fine while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        trained = not torch.equal(self[0].weight, self.start)
        return y if self.training or not trained else y * math.inf


def test_outputs_that_are_no_numbers_at_the_end_are_found() -> None:
    model = made(Overflowing)
    model.start = model[0].weight.detach().clone()
    with pytest.raises(RecoveryDiverged, match=r"the outputs became (nan|inf) in epoch 4 of 4"):
        recovered(model, Images(flat=True), replace(SHORT, weight=0.0))


class Masking(Dense):
    """Rules one class out, which is no defect."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), torch.full((len(x), 1), -math.inf)], dim=1)


def test_a_model_s_own_infinite_outputs_are_no_divergence() -> None:
    recovered(made(Masking), Images(flat=True), replace(SHORT, weight=0.0))


def test_the_same_training_twice_gives_the_same_bits() -> None:
    everything = replace(SHORT, features=0.5, attention=0.5)
    runs = [recovered(made(Staged), Images(), everything, made(Staged, 8))[0] for _ in range(2)]
    assert same(*runs)
