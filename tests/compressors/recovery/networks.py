"""Small networks and helpers that the tests of recovery share."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.data import Data
from compressors.policies.policy import Recovery
from compressors.record import RecoveryRecord
from compressors.recovery.conditions import Conditions
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher
from tests.compressors.tiny import Block


class Staged(nn.Module):
    """Two stages of one block each, so wide and twice as wide."""

    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3, 1, 1)
        self.layer1 = nn.Sequential(Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.conv(x))))
        return self.fc(F.dropout(x.mean(dim=(2, 3)), 0.2, self.training))


class Tokens(nn.Module):
    """Eight rows of an image as tokens, through an encoder."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(16, width)
        self.encoder = nn.Sequential(
            nn.TransformerEncoderLayer(width, 2, 16, batch_first=True),
            nn.TransformerEncoderLayer(width, 2, 16, batch_first=True),
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).flatten(2)
        return self.head(self.encoder(self.embed(x)).mean(dim=1))


def made(kind: type[nn.Module], *args: int, seed: int = 3) -> nn.Module:
    """A model with fixed weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(*args).eval()


def recovered(
    model: nn.Module,
    data: Data,
    settings: Recovery,
    teacher: nn.Module | None = None,
    conditions: Conditions | None = None,
) -> tuple[nn.Module, RecoveryRecord]:
    """A copy of the model after recovery, as a stack would run it."""
    copy = deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        school = Teacher(teacher or deepcopy(model).eval(), data)
        return copy, recover(copy, data, settings, school, conditions)


def same(one: nn.Module, two: nn.Module) -> bool:
    """Whether two models agree to the last bit."""
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
