"""Profiles of the simulated accelerator, whose times are exact.

`tiny_npu.csv` is the one of TinyTask, in float and 8 bits; this writes it again:
`Profile(Coarse(), TinyTask(), path, Settings((INT8,))).run()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from evaluation.measurement import ERROR, Value
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.table.target import Table
from evaluation.task import Predict

FILE = Path(__file__).with_name("tiny_npu.csv")


class Coarse(NpuSim):
    """Widths in eights alone, so that few rows are enough."""

    def __init__(self, batch: int = 1) -> None:
        super().__init__(batch=batch)
        object.__setattr__(self.capability, "channel_multiple", 8)


class ProfiledTable(Table):
    """The target that looks up in that file, made as the built-in ones are."""

    def __init__(
        self,
        threads: int = 1,
        batch: int | None = None,
        cache_dir: str | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(str(FILE), threads, batch, cache_dir, **limits)


class TwoLayers:
    """A convolution and a classifier: a task of six rows."""

    name = "two_layers"
    metric = ERROR

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            layers = nn.Conv2d(1, 8, 3), nn.ReLU(), *pooled, nn.Linear(8, 8)
            return nn.Sequential(*layers).eval()

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        return [Batch(inputs, torch.arange(4), torch.arange(4))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        return Value(ERROR, 0.5, 0.1)
