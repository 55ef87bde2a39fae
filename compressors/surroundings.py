"""What the steps of a policy draw on besides the model: data, statistics, teacher, cache.

Knows how a model at hand is looked at and trained, and nothing of which steps are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics, mean_loss
from compressors.data import Data
from compressors.layout import fast_layout
from compressors.policies.policy import Recovery, Scales
from compressors.pruning.masks import Masks
from compressors.pruning.plan import Part
from compressors.quantization.layers import freeze_scales, recalibrate, set_scales
from compressors.record import RecoveryRecord
from compressors.recovery.batchnorm import TrainingSplit, reestimate, renew_norms
from compressors.recovery.conditions import Conditions
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher

Plans = dict[tuple[str, ...], dict[str, tuple[Part, ...]]]


def _deaf(note: str) -> None:
    del note


@dataclass(frozen=True)
class Surroundings:
    """Of one policy on one model."""

    data: Data
    calibration: Calibration
    training: TrainingSplit
    cache: ContentCache
    example: tuple[Tensor, ...]
    blocks: tuple[str, ...]  # the model's own, where teachers' and students' values are compared
    plans: Plans  # what goes with which channels, by the blocks removed and attentions opened
    teacher: Callable[[], Teacher]
    original_loss: Callable[[], float]  # on the calibration split
    on_step: Callable[[], None]

    def statistics(self, model: nn.Module) -> Statistics:
        """What the calibration split says of the model, which must not change meanwhile."""
        return Statistics(model, self.calibration, self.cache)

    def loss(self, model: nn.Module) -> float:
        """The mean loss on the calibration split."""
        return mean_loss(model, self.calibration)

    def renew_norms(self, model: nn.Module) -> None:
        """Take the batch norms' statistics anew."""
        with fast_layout(model, self.example):
            renew_norms(model, self.training, self.cache, lambda: self.calibration.answers(model))

    def recover(
        self,
        model: nn.Module,
        masks: Masks,
        settings: Recovery,
        *,
        epochs: int | None = None,
        checkpoint: Path | None = None,
        stamp: str = "",
        note: Callable[[str], None] = _deaf,
    ) -> RecoveryRecord:
        """Train in place, masked weights staying zero; random numbers are the settings' own."""
        torch.manual_seed(settings.seed)

        def scale(mode: Scales) -> None:
            for sentence in set_scales(model, mode):
                note(sentence)

        conditions = Conditions(
            blocks=self.blocks,
            on_step=self.on_step,
            after_step=masks.hold,
            recalibrate=lambda: recalibrate(model, self.calibration.batches),
            renew_norms=lambda: reestimate(model, self.training),
            set_scales=scale,
            freeze_scales=lambda: freeze_scales(model),
            epochs=epochs,
            checkpoint=checkpoint,
            stamp=stamp,
            note=note,
        )
        with fast_layout(model, self.example):
            return recover(model, self.data, settings, self.teacher(), conditions)
