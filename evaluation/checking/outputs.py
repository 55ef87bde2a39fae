"""A whole file against the simulated model.

Held to single precision: a model in half precision is compared as its file computes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from compressors.data import Data
from compressors.record import CompressedModel
from evaluation.checking.departure import Departure, departure
from evaluation.checking.simulated import as_single, single_precision
from evaluation.target import Target

SAMPLES = 8

Inputs = tuple[Tensor, ...]


def few(data: Data, samples: int = SAMPLES) -> list[Inputs]:
    """A small batch from the calibration split."""
    batch = next(iter(data.batches("calibration")))
    return [tuple(arg[:samples] for arg in batch.args)]


@torch.no_grad()
def outputs(
    target: Target, compressed: CompressedModel, file: Path, batches: Iterable[Inputs]
) -> Departure:
    """How far the file's answers lie from the simulated model's."""
    predict = target.load(file)
    module = single_precision(compressed.module)
    return departure((module(*as_single(args)), predict(*args)) for args in batches)
