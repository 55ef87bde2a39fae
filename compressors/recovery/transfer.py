"""Learning from a teacher's hidden values: how far a student's are from them, at hints.

Features: the squared error relative to the teacher's mean square, after a linear projection where
widths differ. It starts as the least squares fit on one batch, is learned with the student, and
belongs to nobody afterwards. Attention: the squared difference of the maps of squared values,
summed over width, each map of length 1; widths may differ. Knows nothing of logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.data import Batch
from compressors.modules import device_of, moved
from compressors.policies.policy import Recovery
from compressors.recovery.hints import chosen_hints, default_hints, watching
from compressors.recovery.losses import wide
from compressors.recovery.teacher import Teacher

SMALL = 1e-12
RIDGE = 1e-3  # of the mean square, added to what a projection is fitted on


class Transfer(nn.Module):
    """The distances at all hints, and the projections that they need as parameters."""

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        settings: Recovery,
        blocks: Sequence[str],
        batch: Batch,
    ) -> None:
        super().__init__()
        find, names = (chosen_hints, settings.hints) if settings.hints else (default_hints, blocks)
        positions = settings.attention > 0
        self.hints = find(student, teacher.model, names, batch.args, positions=positions)
        self._teacher = teacher
        self._settings = settings
        self._seen: dict[str, Tensor] = {}
        self.projections = nn.ModuleDict()
        if settings.features:
            self._fit(student, batch)

    @contextmanager
    def watching(self, student: nn.Module) -> Iterator[None]:
        """Inside, `loss` compares what the student last gave."""
        with watching(student, [hint.student for hint in self.hints]) as self._seen:
            yield

    def loss(self, batch: Batch) -> Tensor:
        """Both distances by their weights, each the mean over the hints."""
        targets = self._targets(batch)
        losses = [
            self._distance(str(index), self._seen[hint.student], targets[hint.teacher], hint.width)
            for index, hint in enumerate(self.hints)
            if hint.student in self._seen and hint.teacher in targets  # a layer may be left out
        ]
        self._seen.clear()
        return torch.stack(losses).mean() if losses else torch.zeros(())

    def _distance(self, key: str, student: Tensor, teacher: Tensor, width: int) -> Tensor:
        student, teacher = wide(student), wide(teacher).to(student.device)
        distance = student.new_zeros(())
        if self._settings.features:
            own = student.movedim(width, -1)
            projection = self.projections[key] if key in self.projections else nn.Identity()
            distance = distance + self._settings.features * relative_error(
                projection(own), teacher.movedim(width, -1)
            )
        if self._settings.attention:
            apart = attention_distance(student, teacher, width)
            distance = distance + self._settings.attention * apart
        return distance

    @torch.no_grad()
    def _targets(self, batch: Batch) -> dict[str, Tensor]:
        with watching(self._teacher.model, [hint.teacher for hint in self.hints]) as seen:
            self._teacher.run(batch)
        return seen

    @torch.no_grad()
    def _fit(self, student: nn.Module, batch: Batch) -> None:
        targets = self._targets(batch)
        values = _values_in_training(student, [hint.student for hint in self.hints], batch)
        for index, hint in enumerate(self.hints):
            own = wide(values[hint.student]).movedim(hint.width, -1).flatten(0, -2)
            other = wide(targets[hint.teacher]).movedim(hint.width, -1).flatten(0, -2)
            if own.shape[1] != other.shape[1]:
                self.projections[str(index)] = Projection(own, other.to(own.device))


def _values_in_training(
    student: nn.Module, names: Sequence[str], batch: Batch
) -> dict[str, Tensor]:
    """What the modules give while batch norms take their statistics of the batch."""
    copy = deepcopy(student).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm) and len(batch.targets) > 1:
            module.train()
    with watching(copy, names) as seen:
        copy(*moved(batch.args, device_of(copy)))
    return seen


class Projection(nn.Module):
    """A linear map of the last dimension, at first the least squares fit of some rows."""

    def __init__(self, rows: Tensor, targets: Tensor) -> None:
        super().__init__()
        weight, bias = fitted(rows, targets)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """The values as the teacher's might be."""
        return F.linear(x, self.weight, self.bias)


def fitted(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the ridge regression from rows to targets."""
    x, y = rows.double(), targets.double()
    means = x.mean(0), y.mean(0)
    x, y = x - means[0], y - means[1]
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() + SMALL
    gram.diagonal().add_(ridge)
    weight = torch.linalg.solve(gram, x.T @ y).T
    bias = means[1] - weight @ means[0]
    return weight.to(rows.dtype).contiguous(), bias.to(rows.dtype)


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared error as a share of the teacher's mean square."""
    square = teacher.square().mean()
    return F.mse_loss(student, teacher) / torch.where(square > SMALL, square, 1.0)


def attention_distance(student: Tensor, teacher: Tensor, width: int) -> Tensor:
    """The squared distance of the maps of energy, between 0 and 2."""
    apart = _energy(student, width) - _energy(teacher, width)
    return apart.square().sum(dim=1).mean()


def _energy(x: Tensor, width: int) -> Tensor:
    return F.normalize(x.square().sum(dim=width).flatten(1), dim=1, eps=SMALL)
