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


def wide(x: Tensor) -> Tensor:
    """At least float32: nothing is summed up in half precision."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x
