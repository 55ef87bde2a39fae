"""How far a student's outputs are from a teacher's.

The divergence between softened class distributions where targets are class numbers, the squared
difference of outputs elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """How far the student's outputs are from the teacher's."""
    scores, taught = class_scores(student, targets), class_scores(teacher, targets)
    if scores is None or taught is None:
        return F.mse_loss(student, teacher)
    soft_student = F.log_softmax(scores / temperature, dim=1)
    soft_teacher = F.log_softmax(taught / temperature, dim=1)
    divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def class_scores(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """The outputs as rows of scores of classes, None where they are none."""
    dim = _class_dimension(outputs.shape, targets.shape)
    if dim >= outputs.dim() or outputs.shape[dim] < 2 or targets.is_floating_point():
        return None
    return outputs.movedim(dim, -1).reshape(-1, outputs.shape[dim])


def _class_dimension(outputs: torch.Size, targets: torch.Size) -> int:
    """Torch's own 1, or the last where only that one leaves the targets' shape (tokens)."""
    if targets == outputs[:-1] and targets != outputs[:1] + outputs[2:]:
        return len(outputs) - 1
    return 1


def wide(x: Tensor) -> Tensor:
    """At least float32: nothing is summed up in half precision."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x
