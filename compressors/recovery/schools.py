"""The models that a task offers besides its own: teachers to learn from, students to start as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import nn

from compressors.data import Data, OffersStudents, OffersTeachers
from compressors.errors import PolicyError, UserError, choices
from compressors.modules import device_of
from compressors.policies.policy import ORIGINAL


def teacher_named(data: Data, original: nn.Module, name: str) -> nn.Module:
    """The teacher of that name, in eval mode where the original is; 'original' is that itself."""
    offered = data.teachers if isinstance(data, OffersTeachers) else dict
    return _named("recovery.teacher", "teachers", offered, original, name)


def student_named(data: Data, original: nn.Module, name: str) -> nn.Module:
    """The model to start from, in eval mode where the original is; 'original' is that itself."""
    offered = data.students if isinstance(data, OffersStudents) else dict
    return _named("student", "students", offered, original, name)


def _named(
    rule: str,
    kind: str,
    offered: Callable[[], Mapping[str, nn.Module]],
    original: nn.Module,
    name: str,
) -> nn.Module:
    if name == ORIGINAL:
        return original
    device = device_of(original)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        models = offered()  # may build or train them
        if name not in models:
            valid = [ORIGINAL, *(other for other in models if other != ORIGINAL)]
            raise PolicyError(f"{rule} cannot be '{name}'; valid: {choices(valid)}.")
        model = models[name]
    if not isinstance(model, nn.Module):
        raise UserError(
            f"The task's {kind}()['{name}'] is of type {type(model).__name__}; valid: a torch"
            " module."
        )
    return deepcopy(model).to(device).eval()
