"""Recovery: training after the cuts, on the task's loss mixed with distillation.

Everything trains, fake-quantised weights straight-through; batch norms stay live. Distillation
is the divergence between softened class distributions where targets are class numbers, and the
squared difference of outputs elsewhere. Ranges of activations are found again at the start of
each epoch of the first half, then held. Knows nothing of which cuts were made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sized

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.data import Batch, Data
from compressors.errors import UserError
from compressors.modules import device_of, moved
from compressors.policies.policy import Recovery
from compressors.record import RecoveryRecord
from compressors.recovery.teacher import Teacher

WEIGHT_DECAY = 1e-2  # AdamW's; SGD takes 1e-4
SEEDS = 100_003  # an epoch's shuffling seed is the policy's times this, plus the epoch


class RecoveryDiverged(Exception):
    """The loss stopped being a number; says where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def recover(
    model: nn.Module,
    data: Data,
    settings: Recovery,
    teacher: Teacher,
    *,
    on_step: Callable[[], None],
    recalibrate: Callable[[], None],
) -> RecoveryRecord:
    """Train in place. The caller has seeded torch's generator; the model ends in eval mode."""
    trained = _trainable(model)
    frozen = [p for p in trained if not p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        losses = _epochs(model, trained, data, settings, teacher, on_step, recalibrate)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.grad = None
        model.eval()
    return RecoveryRecord(epochs=settings.epochs, losses=tuple(losses))


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    """What takes gradients; where the user froze everything (a deployed model), everything."""
    floating = [p for p in model.parameters() if p.is_floating_point()]
    return [p for p in floating if p.requires_grad] or floating


def _epochs(
    model: nn.Module,
    trained: list[nn.Parameter],
    data: Data,
    settings: Recovery,
    teacher: Teacher,
    on_step: Callable[[], None],
    recalibrate: Callable[[], None],
) -> list[float]:
    optimizer = _optimizer(trained, settings)
    steps = _batch_count(data, settings) * settings.epochs
    losses, step = [], 0
    for epoch in range(settings.epochs):
        if 0 < epoch <= settings.epochs // 2:
            recalibrate()
        model.train()
        total, samples = 0.0, 0
        seed = settings.seed * SEEDS + epoch
        for batch in data.batches("train", batch_size=settings.batch_size, seed=seed):
            on_step()
            if _too_small(batch, model):
                continue
            _set_rate(optimizer, settings, step / steps)
            total += _step(model, optimizer, data, settings, teacher, batch, epoch)
            samples, step = samples + 1, step + 1
        if samples == 0:
            raise UserError(
                f"recovery.batch_size is {settings.batch_size}, but a model with batch norms"
                " cannot train on batches of one sample; valid: from 2."
            )
        losses.append(total / samples)
    return losses


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Data,
    settings: Recovery,
    teacher: Teacher,
    batch: Batch,
    epoch: int,
) -> float:
    device = device_of(model)
    outputs = model(*moved(batch.args, device))
    loss = _loss(outputs, batch.targets.to(device), batch, data, settings, teacher)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RecoveryDiverged(
            f"Recovery diverged: the loss became {value} in epoch {epoch + 1} of"
            f" {settings.epochs} (learning rate {settings.learning_rate:g})."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


def _loss(
    outputs: Tensor, targets: Tensor, batch: Batch, data: Data, settings: Recovery, teacher: Teacher
) -> Tensor:
    weight = settings.weight
    if weight == 0:
        return data.loss(outputs, targets)
    distilled = distillation(outputs, teacher.outputs(batch), targets, settings.temperature)
    if weight == 1:
        return distilled
    return (1 - weight) * data.loss(outputs, targets) + weight * distilled


def distillation(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """How far the student's outputs are from the teacher's."""
    dim = _class_dimension(student.shape, targets.shape)
    if dim >= student.dim() or student.shape[dim] < 2 or targets.is_floating_point():
        return F.mse_loss(student, teacher)
    width = student.shape[dim]
    soft_student = F.log_softmax(student.movedim(dim, -1).reshape(-1, width) / temperature, dim=1)
    soft_teacher = F.log_softmax(teacher.movedim(dim, -1).reshape(-1, width) / temperature, dim=1)
    divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def _class_dimension(outputs: torch.Size, targets: torch.Size) -> int:
    """Torch's own 1, or the last where only that one leaves the targets' shape (tokens)."""
    if targets == outputs[:-1] and targets != outputs[:1] + outputs[2:]:
        return len(outputs) - 1
    return 1


def _optimizer(trained: list[nn.Parameter], settings: Recovery) -> torch.optim.Optimizer:
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    return torch.optim.AdamW(trained, rate, weight_decay=WEIGHT_DECAY)


def _set_rate(optimizer: torch.optim.Optimizer, settings: Recovery, done: float) -> None:
    share = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * share


def _batch_count(data: Data, settings: Recovery) -> int:
    batches = data.batches("train", batch_size=settings.batch_size, seed=settings.seed * SEEDS)
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if count == 0:
        raise UserError(
            f"recovery.epochs is {settings.epochs}, but the task's train split has no batches;"
            " valid without training data: 0."
        )
    return count


def _too_small(batch: Batch, model: nn.Module) -> bool:
    """Whether a live batch norm could take no statistics of this batch."""
    return len(batch.targets) < 2 and any(isinstance(m, _BatchNorm) for m in model.modules())
