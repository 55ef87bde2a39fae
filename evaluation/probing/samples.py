"""The samples that a probe looks at, and a model's answers to them as rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.data import Batch
from compressors.modules import device_of, moved
from compressors.recovery.losses import class_scores, wide
from evaluation.task import Task


def size(batch: Batch) -> int:
    """How many samples a batch has."""
    return len(batch.args[0])


def first_samples(task: Task, count: int) -> list[Batch]:
    """The first samples of the calibration split, as many as there are of so many."""
    found: list[Batch] = []
    for batch in task.batches("calibration"):
        if count <= 0:
            break
        taken = part(batch, 0, count)
        found.append(taken)
        count -= size(taken)
    return found


def singles(batches: list[Batch]) -> Iterator[Batch]:
    """The samples one by one."""
    for batch in batches:
        for index in range(size(batch)):
            yield part(batch, index, index + 1)


def part(batch: Batch, start: int, end: int) -> Batch:
    """Some of a batch's samples."""
    return Batch(tuple(arg[start:end] for arg in batch.args), batch.targets[start:end])


def rows_of(outputs: Tensor, targets: Tensor) -> tuple[Tensor, bool]:
    """Outputs as rows, and whether these are scores of classes; elsewhere a row is a sample."""
    scores = class_scores(outputs, targets)
    return (outputs.reshape(len(outputs), -1), False) if scores is None else (scores, True)


@dataclass(frozen=True)
class Answers:
    """A model's outputs to some batches."""

    outputs: tuple[Tensor, ...]  # batch by batch
    rows: NDArray[np.float32 | np.float64]
    scores: bool


@torch.no_grad()
def answers(model: nn.Module, batches: list[Batch]) -> Answers:
    """What a model in eval mode makes of the batches."""
    device = device_of(model)
    outputs: list[Tensor] = []
    rows: list[NDArray[Any]] = []
    scores = False
    for batch in batches:
        given: Any = model(*moved(batch.args, device))
        outputs.append(wide(given).cpu())
        found, scores = rows_of(outputs[-1], batch.targets)
        rows.append(found.numpy())
    return Answers(tuple(outputs), np.concatenate(rows), scores)
