"""A labelled data set held in memory, its four splits, and the error rate of a predictor on one.

Knows nothing of digits or of any model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from compressors.data import Batch, Split
from compressors.errors import UserError, unknown
from evaluation.measurement import ERROR, Value
from evaluation.task import Predict

BATCH = 100


@dataclass(frozen=True)
class Samples:
    """Inputs and targets by sample id, and the ids of each split in their fixed order."""

    inputs: Tensor
    targets: Tensor
    splits: Mapping[Split, Tensor]

    def ids(self, split: Split) -> Tensor:
        """The samples of a split."""
        if split not in self.splits:
            raise UserError(unknown("split", split, get_args(Split)))
        return self.splits[split]

    def batches(self, split: Split, batch_size: int | None, seed: int | None) -> Iterator[Batch]:
        """Batches of a split in fixed order, or shuffled by a seed."""
        ids = self.ids(split)
        if seed is not None:
            order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
            ids = ids[order]
        return self._of(ids, batch_size or BATCH)

    def error(self, predict: Predict, split: Split, fraction: float) -> Value:
        """The share of wrong answers on the first `fraction` of a split.

        The spread is the standard error of Agresti and Coull, which adds two right and two wrong
        answers, so that it is not 0 where no answer was wrong.
        """
        if not 0 < fraction <= 1:
            raise UserError(f"fraction cannot be {fraction!r}; valid: 0 < fraction <= 1.")
        ids = self.ids(split)
        ids = ids[: math.ceil(fraction * len(ids))]
        wrong = 0
        with torch.no_grad():
            for batch in self._of(ids, BATCH):
                answers = predict(*batch.args).argmax(dim=1)
                wrong += int((answers != batch.targets).sum())
        padded = (wrong + 2) / (len(ids) + 4)
        spread = math.sqrt(padded * (1 - padded) / (len(ids) + 4))
        return Value(ERROR, wrong / len(ids), spread)

    def _of(self, ids: Tensor, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(ids), batch_size):
            part = ids[start : start + batch_size]
            yield Batch(self.inputs[part], self.targets[part], part)
