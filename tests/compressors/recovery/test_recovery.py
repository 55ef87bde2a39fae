"""Recovery and the stack as a whole: learning, teachers, divergence, pausing, layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from compressors.data import Batch, Split
from compressors.errors import PolicyError, UserError
from compressors.layout import fast_layout
from compressors.policies.policy import LayerPolicy, Policy, Recovery
from compressors.policies.steps import Prune, Quantize
from compressors.quantization.layers import describe
from compressors.recovery.divergence import RecoveryDiverged
from compressors.recovery.losses import distillation
from compressors.recovery.teacher import Teacher
from compressors.stack import Stack, apply
from tests.compressors.tiny import Dense, Images, Residual, accuracy, seeded, trained

HALF_INT4 = LayerPolicy("*", Prune(0.5), quantize=Quantize(4, 8))


def test_recovery_mends_what_the_cuts_broke() -> None:
    data = Images()
    model = trained(Residual, data)
    assert accuracy(model, data) > 0.95
    cut = apply(model, Policy(("layer1.1",), (HALF_INT4,)), data)
    settings = Recovery(epochs=8, learning_rate=5e-3, batch_size=16)
    mended = apply(model, Policy(("layer1.1",), (HALF_INT4,), settings), data)
    assert accuracy(mended.module, data) > max(0.9, accuracy(cut.module, data))
    assert mended.record.recovery
    losses = mended.record.recovery.losses
    assert len(losses) == 8
    assert losses[-1] < losses[0] / 2


def test_the_weights_that_are_recovered_lie_on_the_grid() -> None:
    data = Images()
    settings = Recovery(epochs=1, learning_rate=1e-2)
    policy = Policy((), (LayerPolicy("fc", quantize=Quantize(4, 8)),), settings)
    module = apply(seeded(Residual), policy, data).module
    found = describe(module)["fc"]
    assert found.weight_integers is not None
    assert found.weight_scales is not None
    wrapper = module.get_submodule("fc")
    simulated = wrapper.weight_quantizer(wrapper.layer.weight)
    grid = found.weight_integers * found.weight_scales[:, None]
    torch.testing.assert_close(simulated, grid, atol=1e-6, rtol=0)
    assert not torch.equal(wrapper.layer.weight, seeded(Residual).fc.weight)


def test_a_format_whose_scales_are_not_learned_is_told() -> None:
    settings = Recovery(epochs=1, scales="learned")
    entries = (
        LayerPolicy("conv1", quantize=Quantize(4, None, function="log")),
        LayerPolicy("fc", quantize=Quantize(4, 8)),
    )
    notes = apply(
        seeded(Residual), Policy(layers=entries, recovery=settings), Images()
    ).record.notes
    assert notes == ("conv1: weights of function log keep their scales, unlearned",)


def test_samples_without_ids_train_the_same_way() -> None:
    policy = Policy(recovery=Recovery(epochs=2, weight=1.0))
    with_ids = apply(seeded(Residual), policy, Images(ids=True)).module
    without = apply(seeded(Residual), policy, Images(ids=False)).module
    for one, two in zip(with_ids.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=5e-3, rtol=0)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.samples = nn.Flatten(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.samples += len(x)
        return self.inner(x)


def test_a_teacher_is_asked_once_a_sample() -> None:
    data, model = Images(), Counting()
    teacher = Teacher(model, data)
    for epoch in range(3):
        for batch in data.batches("train", batch_size=10, seed=epoch):
            assert torch.equal(teacher.outputs(batch), batch.inputs.flatten(1))
    assert model.samples == 64
    nameless = Batch(data.all("train")[0][:16], torch.zeros(16))
    assert torch.equal(teacher.outputs(nameless), nameless.inputs.flatten(1))
    assert model.samples == 80


class Repeating(Images):
    """Every batch of a split comes twice."""

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        for batch in super().batches(split, batch_size=batch_size, seed=seed):
            yield batch
            yield batch


def test_a_teacher_knows_samples_that_come_more_than_once() -> None:
    data, model = Repeating(), Counting()
    teacher = Teacher(model, data)
    for batch in data.batches("train", seed=1):
        assert torch.equal(teacher.outputs(batch), batch.inputs.flatten(1))
    assert model.samples == 128


def test_distillation_is_zero_at_the_teacher_and_scale_free_in_temperature() -> None:
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    classes = torch.zeros(5, dtype=torch.long)
    assert float(distillation(teacher, teacher, classes, 4.0)) == pytest.approx(0, abs=1e-6)
    expected = (
        4.0
        * (teacher / 2).softmax(1)
        * ((teacher / 2).log_softmax(1) - (student / 2).log_softmax(1))
    ).sum() / 5
    assert float(distillation(student, teacher, classes, 2.0)) == pytest.approx(float(expected))
    regression = distillation(student, teacher, torch.zeros(5, 4), 2.0)
    assert float(regression) == pytest.approx(float((student - teacher).pow(2).mean()))


def test_distillation_softens_over_the_classes_wherever_they_stand() -> None:
    student, teacher = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    flat = distillation(student.reshape(10, 4), teacher.reshape(10, 4), tokens.flatten(), 2.0)
    assert float(distillation(student, teacher, tokens, 2.0)) == pytest.approx(float(flat))
    second = distillation(student.movedim(-1, 1), teacher.movedim(-1, 1), tokens, 2.0)
    assert float(second) == pytest.approx(float(flat))


class NanLoss(Images):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * math.nan


def test_a_loss_that_is_no_number_ends_recovery_with_the_reason() -> None:
    with pytest.raises(RecoveryDiverged, match="the loss became nan in epoch 1 of 3") as caught:
        apply(seeded(Residual), Policy(recovery=Recovery(epochs=3)), NanLoss())
    assert caught.value.reason == str(caught.value)
    assert not isinstance(caught.value, UserError)


class Loaded(Images):
    """A plain DataLoader, whose iteration draws from torch's generator."""

    def batches(self, split: Split, **_: object) -> Iterator[Batch]:  # type: ignore[override]
        images, targets = self.all(split)
        samples = TensorDataset(images, targets, torch.arange(len(targets)))
        for batch in DataLoader(samples, batch_size=16):
            yield Batch(*batch)


class Dropping(Dense):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5, self.training))


def test_a_loader_that_draws_changes_no_weights_and_no_random_state() -> None:
    state = torch.get_rng_state()
    stack = Stack(seeded(Dropping), Loaded(flat=True))
    assert torch.equal(torch.get_rng_state(), state)
    policy = Policy(recovery=Recovery(epochs=1))
    first, second = (stack.apply(policy).module[0].weight for _ in range(2))
    assert torch.equal(first, second)


class Abort(Exception):
    pass


def test_every_training_step_may_pause_or_abort() -> None:
    data = Images()
    stack, steps = Stack(seeded(Residual), data), []
    policy = Policy(recovery=Recovery(epochs=2, batch_size=16))
    stack.apply(policy, on_step=lambda: steps.append(1))
    assert len(steps) == 2 * 64 // 16

    def abort() -> None:
        raise Abort

    with pytest.raises(Abort):
        stack.apply(policy, on_step=abort)
    assert stack.apply(policy).record == stack.apply(policy).record


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_field_of_recovery_changes_the_weights(optimizer: str, schedule: str) -> None:
    stack = Stack(seeded(Dense), Images(flat=True))
    base = Recovery(2, 1e-2, optimizer=optimizer, schedule=schedule)  # type: ignore[arg-type]
    seen = [stack.apply(Policy(recovery=base)).module[0].weight]
    for change in ({"learning_rate": 2e-2}, {"temperature": 1.0}, {"weight": 0.1}, {"seed": 1}):
        changed = Recovery(**{**vars(base), **change})
        seen.append(stack.apply(Policy(recovery=changed)).module[0].weight)
    assert all(not torch.equal(one, two) for i, one in enumerate(seen) for two in seen[i + 1 :])


def test_a_model_that_was_frozen_for_deployment_recovers() -> None:
    model = seeded(Residual).requires_grad_(False)
    module = apply(model, Policy(recovery=Recovery(epochs=1)), Images()).module
    assert not torch.equal(module.fc.weight, model.fc.weight)
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_what_the_user_froze_in_part_stays_frozen() -> None:
    model = seeded(Residual)
    model.conv1.weight.requires_grad_(False)
    module = apply(model, Policy(recovery=Recovery(epochs=1)), Images()).module
    assert torch.equal(module.conv1.weight, model.conv1.weight)
    assert not torch.equal(module.fc.weight, model.fc.weight)


def test_without_training_data_cuts_use_the_calibration_split() -> None:
    data = Images(train=False)
    module = apply(seeded(Residual), Policy(("layer1.1",)), data).module
    seen = [batch.inputs for batch in data.batches("calibration")]
    first = module.conv1(torch.cat(seen)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(module.bn1.running_mean, first)


def test_a_model_with_batch_norms_is_not_trained_on_single_samples() -> None:
    single = Policy(recovery=Recovery(epochs=1, batch_size=1))
    with pytest.raises(UserError, match=r"recovery\.batch_size is 1, .* valid: from 2"):
        apply(seeded(Residual), single, Images())
    assert apply(seeded(Dense), single, Images(flat=True)).record.recovery


def test_recovery_without_training_data_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"recovery\.epochs is 2, but .* train split has no batches"
    ):
        apply(seeded(Residual), Policy(recovery=Recovery(epochs=2)), Images(train=False))


def test_patterns_are_expanded_and_policies_checked() -> None:
    stack = Stack(seeded(Residual), Images())
    compressed = stack.apply(Policy((), (LayerPolicy("layer1.*", quantize=Quantize(8, 8)),)))
    assert len(describe(compressed.module)) == 4
    with pytest.raises(PolicyError, match="go with those of 'conv1'"):
        stack.apply(Policy((), (LayerPolicy("layer1.0.conv2", Prune(0.5)),)))


class Viewing(nn.Module):
    """Its own code needs the plain memory layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3), nn.Linear(144, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(x.view(len(x), -1))


def test_a_model_that_needs_the_plain_layout_keeps_it() -> None:
    example = (torch.randn(1, 2, 8, 8),)
    model = Viewing()
    with fast_layout(model, example):
        model(torch.randn(4, 2, 8, 8))
        assert model.conv.weight.is_contiguous()
    other = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    with fast_layout(other, (torch.randn(1, 1, 8, 8),)):
        inside = other(torch.randn(4, 1, 8, 8))
        assert inside.is_contiguous(memory_format=torch.channels_last)
    assert other[1].weight.is_contiguous()
    assert not other._forward_pre_hooks
    module = apply(Viewing(), Policy(recovery=Recovery(epochs=1)), Images()).module
    assert module.conv.weight.is_contiguous()


def test_a_channels_last_model_stays_so_and_the_empty_policy_changes_no_bit() -> None:
    data = Images()
    model = seeded(Residual).to(memory_format=torch.channels_last)
    strides = [parameter.stride() for parameter in model.parameters()]
    stack, images = Stack(model, data), data.all("validation")[0]
    same = stack.apply(Policy()).module
    assert [parameter.stride() for parameter in same.parameters()] == strides
    assert torch.equal(same(images), model(images))
    trained = stack.apply(Policy(recovery=Recovery(epochs=1))).module
    assert [parameter.stride() for parameter in trained.parameters()] == strides


class Single(nn.Module):
    """Runs on one sample alone, and says so in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != 1:
            raise ValueError
        return self.conv(x)


def test_a_model_that_fails_on_the_trial_run_keeps_its_layout() -> None:
    model = Single()
    with fast_layout(model, (torch.randn(1, 2, 8, 8),)):
        assert model.conv.weight.is_contiguous()


class Nothing(Images):
    def batches(self, split: object, **_: object) -> list[Batch]:  # type: ignore[override]
        return []


def test_data_without_calibration_is_refused() -> None:
    with pytest.raises(UserError, match="calibration split has no batches"):
        Stack(seeded(Residual), Nothing())
