"""Recovery: training after the cuts, on the task's loss mixed with distillation.

Everything trains, fake-quantised weights straight-through, and quantisers' steps where they are
learned. Knows nothing of which cuts were made.
"""

from __future__ import annotations

from collections.abc import Sized

from torch import nn

from compressors.data import Data
from compressors.errors import UserError
from compressors.policies.policy import Recovery
from compressors.record import RecoveryRecord
from compressors.recovery.conditions import Conditions
from compressors.recovery.teacher import Teacher
from compressors.recovery.training import SEEDS, Training


def recover(
    model: nn.Module,
    data: Data,
    settings: Recovery,
    teacher: Teacher,
    conditions: Conditions | None = None,
) -> RecoveryRecord:
    """Train in place. The caller has seeded torch's generator; the model ends in eval mode."""
    conditions = conditions or Conditions()
    steps = _batch_count(data, settings) * settings.epochs
    trained = _trainable(model)
    frozen = [p for p in trained if not p.requires_grad]
    known = set(model.parameters())
    conditions.set_scales(settings.scales)
    scales = [p for p in model.parameters() if p not in known and p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        training = Training(model, data, settings, teacher, conditions)
        losses = training.run(trained, scales, steps)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for parameter in (*trained, *scales):
            parameter.grad = None
        model.eval()
    conditions.freeze_scales()
    training.check_outputs()
    return RecoveryRecord(epochs=len(losses), losses=tuple(losses))


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    """What takes gradients; where the user froze everything (a deployed model), everything."""
    floating = [p for p in model.parameters() if p.is_floating_point()]
    return [p for p in floating if p.requires_grad] or floating


def _batch_count(data: Data, settings: Recovery) -> int:
    batches = data.batches("train", batch_size=settings.batch_size, seed=settings.seed * SEEDS)
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if count == 0:
        raise UserError(
            f"recovery.epochs is {settings.epochs}, but the task's train split has no batches;"
            " valid without training data: 0."
        )
    return count
