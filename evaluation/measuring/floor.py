"""The dispatch floor of a target: what an almost empty model takes, below which nothing gets.

Lowered and timed by the target itself as any model is, so that it is remembered as a latency is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.measurement import Value
from evaluation.target import Target


def dispatch_floor(target: Target) -> Value:
    """The latency of a model that multiplies one number."""
    data = _OneNumber()
    compressed = apply(_model(), Policy(), data)
    with tempfile.TemporaryDirectory(prefix="paredown-floor-") as folder:
        artifact = target.lower(compressed, data, Path(folder) / f"floor{target.suffix}")
        return target.latency(artifact, artifact)


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
