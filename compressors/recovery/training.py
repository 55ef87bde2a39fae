"""The epochs of a recovery: losses, steps, and the state that is kept between epochs.

Batch norms stay live. Ranges of activations that follow what they see are found again at the
start of each epoch of the first half, then held. A training that ends within its schedule, to be
looked at, leaves the model with the mean of its last epoch's weights; what it goes on from is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.calibration import digest
from compressors.data import Batch, Data
from compressors.errors import PolicyError, UserError
from compressors.modules import device_of, eval_mode, moved
from compressors.policies.policy import Recovery
from compressors.recovery.checkpoint import Checkpoint, Learner, Progress
from compressors.recovery.conditions import Conditions
from compressors.recovery.divergence import check_loss, check_outputs, check_weights, is_finite
from compressors.recovery.losses import distillation, wide
from compressors.recovery.mean import Mean
from compressors.recovery.optimiser import optimiser, set_rate
from compressors.recovery.teacher import Teacher
from compressors.recovery.transfer import Transfer

SEEDS = 100_003  # an epoch's shuffling seed is the policy's times this, plus the epoch


class Training:
    """A model, what it learns from, and what is learned with it."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: Recovery,
        teacher: Teacher,
        conditions: Conditions,
    ) -> None:
        self._model = model
        self._data = data
        self._settings = settings
        self._teacher = teacher
        self._conditions = conditions
        asked = settings.epochs if conditions.epochs is None else conditions.epochs
        self._last = min(asked, settings.epochs)
        self._first = next(iter(data.batches("train", batch_size=settings.batch_size)))
        outputs = self._answer()
        self._finite = is_finite(outputs)  # else infinite outputs are the model's own way
        self._check_teacher(outputs)
        self._transfer: Transfer | None = None
        if settings.features or settings.attention:
            self._transfer = Transfer(model, teacher, settings, conditions.blocks, self._first)

    def run(
        self, trained: Sequence[nn.Parameter], scales: Sequence[nn.Parameter], steps: int
    ) -> list[float]:
        """The mean loss of each epoch; goes on from what an earlier run kept."""
        extra = self._transfer.projections if self._transfer else nn.ModuleDict()
        weights = [*trained, *extra.parameters()]
        mean = Mean([*trained, *scales]) if 0 < self._last < self._settings.epochs else None
        learner = Learner(self._model, extra, optimiser(weights, scales, self._settings), mean)
        checkpoint = self._checkpoint(extra)
        progress = (checkpoint.resume(learner, self._last) if checkpoint else None) or Progress()
        watching = self._transfer.watching(self._model) if self._transfer else nullcontext()
        with watching:
            while progress.epochs < self._last:
                self._epoch(learner, progress, steps)
                check_weights(self._model, weights, progress.epochs - 1, self._settings)
                if checkpoint:
                    checkpoint.save(learner, progress)
        if mean is not None:
            self._take(mean)
        return progress.losses

    def check_outputs(self) -> None:
        """Refuse a trained model that gives no numbers."""
        outputs = self._answer()
        if self._finite or bool(torch.isnan(outputs).any()):
            check_outputs(outputs, self._last - 1, self._settings)

    def _take(self, mean: Mean) -> None:
        """Be what the mean weights are, with norms and ranges that suit them."""
        mean.put_in()
        self._conditions.renew_norms()
        if self._settings.scales == "statistics":
            self._conditions.recalibrate()

    def _epoch(self, learner: Learner, progress: Progress, steps: int) -> None:
        settings, epoch, optimizer = self._settings, progress.epochs, learner.optimizer
        if learner.mean is not None:
            learner.mean.begin()  # what an earlier rung showed is of no use any more
        mean = learner.mean if epoch == self._last - 1 else None
        if settings.scales == "statistics" and 0 < epoch <= settings.epochs // 2:
            self._conditions.recalibrate()
        self._model.train()
        total, count = 0.0, 0
        seed = settings.seed * SEEDS + epoch
        for batch in self._data.batches("train", batch_size=settings.batch_size, seed=seed):
            self._conditions.on_step()
            if self._too_small(batch):
                continue
            set_rate(optimizer, settings, progress.steps / steps)
            total += self._step(optimizer, batch, epoch)
            self._conditions.after_step()
            if mean is not None:
                mean.add()
            progress.steps, count = progress.steps + 1, count + 1
        if count == 0:
            raise UserError(
                f"recovery.batch_size is {settings.batch_size}, but a model with batch norms"
                " cannot train on batches of one sample; valid: from 2."
            )
        progress.losses.append(total / count)
        progress.epochs += 1

    def _step(self, optimizer: torch.optim.Optimizer, batch: Batch, epoch: int) -> float:
        loss = self._loss(batch)
        value = float(loss.detach())
        check_loss(value, epoch, self._settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return value

    def _loss(self, batch: Batch) -> Tensor:
        device, weight = device_of(self._model), self._settings.weight
        outputs = wide(self._model(*moved(batch.args, device)))
        targets = wide(batch.targets.to(device))
        losses = []
        if weight < 1:
            losses.append((1 - weight) * self._data.loss(outputs, targets))
        if weight > 0:
            taught = wide(self._teacher.outputs(batch)).to(device)
            apart = distillation(outputs, taught, targets, self._settings.temperature)
            losses.append(weight * apart)
        if self._transfer:
            losses.append(self._transfer.loss(batch).to(device))
        return sum(losses[1:], losses[0])

    def _too_small(self, batch: Batch) -> bool:
        """Whether a live batch norm could take no statistics of this batch."""
        norms = (m for m in self._model.modules() if isinstance(m, _BatchNorm))
        return len(batch.targets) < 2 and any(norms)

    @torch.no_grad()
    def _answer(self) -> Tensor:
        with eval_mode(self._model):
            outputs: Tensor = self._model(*moved(self._first.args, device_of(self._model)))
        return outputs

    def _check_teacher(self, outputs: Tensor) -> None:
        settings = self._settings
        if settings.weight == 0:
            return
        taught = self._teacher.outputs(self._first)
        if taught.shape != outputs.shape:
            raise PolicyError(
                f"recovery.weight is {settings.weight:g}, but the outputs of the teacher"
                f" '{settings.teacher}' are of shape {tuple(taught.shape)} and the model's of"
                f" {tuple(outputs.shape)}; valid: 0, or a teacher of the same outputs."
            )

    def _checkpoint(self, extra: nn.Module) -> Checkpoint | None:
        conditions = self._conditions
        if conditions.checkpoint is None:
            return None
        stamp = digest.of_text(
            conditions.stamp,
            self._settings,
            digest.of_model(self._model),
            digest.of_tensors(extra.state_dict()),
            self._teacher.digest,
        )
        return Checkpoint(conditions.checkpoint, stamp, conditions.note)
