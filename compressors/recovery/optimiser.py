"""The optimisers and learning rates that a policy can name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from compressors.policies.policy import Recovery

WEIGHT_DECAY = {"adamw": 1e-2, "sgd": 1e-4}


def optimiser(
    weights: Sequence[nn.Parameter], scales: Sequence[nn.Parameter], settings: Recovery
) -> torch.optim.Optimizer:
    """The optimiser; quantisers' learned scales do not decay."""
    decay = WEIGHT_DECAY[settings.optimizer]
    groups = [
        {"params": list(parameters), "weight_decay": share}
        for parameters, share in ((weights, decay), (scales, 0.0))
        if parameters
    ]
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, rate)


def set_rate(optimizer: torch.optim.Optimizer, settings: Recovery, done: float) -> None:
    """The learning rate after a share of all steps."""
    share = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * share
