"""The dispatch floor of a target: what an almost empty model takes, below which nothing gets.

Lowered by the target itself as any model is, to be timed beside the files that are held against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.errors import UserError
from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.target import Target


def floor_file(target: Target, folder: Path) -> Path | None:
    """The file of a model that multiplies one number; None where the target takes no such model."""
    data = _OneNumber()
    compressed = apply(_model(), Policy(), data)
    try:
        return target.lower(compressed, data, folder / f"floor{target.suffix}").path
    except UserError:
        return None


def _model() -> nn.Module:
    """Weights of no meaning; drawing them leaves the global random state alone."""
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(nn.Linear(1, 1)).eval()


class _OneNumber:
    """A batch of two single numbers, whatever the split."""

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        del split, batch_size, seed
        numbers = torch.tensor([[1.0], [2.0]])
        return [Batch(numbers, numbers, torch.arange(2))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()
