"""Damage of small changes of weights, from gradients alone: one backward pass a sample.

The outputs' distance is a quadratic form of their change: for class scores half of dz' F dz with
F = diag(p) - pp', elsewhere the mean square over the spread. Of a random vector u with the form's
matrix as its covariance, the mean square of u . dz is that form; and u . dz = (u' J) . dW, one
backward pass from u whatever the number of changes. Targets and the loss play no part, so that a
network that fits its data perfectly has gradients too. Knows nothing of where changes come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.data import Batch
from compressors.modules import device_of, moved
from compressors.recovery.losses import wide
from evaluation.probing.samples import rows_of, singles
from evaluation.probing.weights import Key, Weights


def damages(
    model: nn.Module,
    batches: list[Batch],
    changes: Sequence[Weights],
    spread: float,
    on_step: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """The mean damage of each change of the model's weights; the model is spent by it."""
    keys = sorted({key for change in changes for key in change})
    if not keys:  # nothing changes a weight
        return np.zeros(len(changes))
    tables = [_Table(key, changes) for key in keys]
    parameters = [own_parameter(model, table.key, table.shape) for table in tables]
    signs = torch.Generator().manual_seed(0)
    total, count = np.zeros(len(changes)), 0
    for batch in singles(batches):
        on_step()
        outputs: Any = model(*moved(batch.args, device_of(model)))
        rows, scores = rows_of(wide(outputs), batch.targets)
        vector = direction(rows.detach(), signs, None if scores else spread)
        gradients = torch.autograd.grad(rows, parameters, vector, allow_unused=True)
        moves = np.zeros(len(changes))
        for table, gradient in zip(tables, gradients, strict=True):
            if gradient is not None:
                moves[table.indices] += table.along(gradient)
        total += np.square(moves) * (0.5 if scores else 1.0)
        count += 1
    return total / count


def direction(rows: Tensor, generator: torch.Generator, spread: float | None) -> Tensor:
    """A random vector over outputs whose covariance is that of the distance's form.

    For the mean over rows of the divergence (twice that), where there is no spread, or of the
    squared differences over the spread.
    """
    signs = torch.randint(0, 2, rows.shape, generator=generator).to(rows) * 2 - 1
    if spread is not None:
        return signs / float(np.sqrt(rows.numel() * spread))
    likely = rows.softmax(1)
    drawn = likely.sqrt() * signs
    centred = drawn - likely * drawn.sum(1, keepdim=True)
    return centred / float(np.sqrt(len(rows)))


class _Table:
    """The changes of one parameter, a row each, and whose they are."""

    def __init__(self, key: Key, changes: Sequence[Weights]) -> None:
        self.key = key
        self.indices = [index for index, change in enumerate(changes) if key in change]
        rows = [changes[index][key].flatten() for index in self.indices]
        self.shape = changes[self.indices[0]][key].shape
        self._rows = torch.stack(rows).float()

    def along(self, gradient: Tensor) -> NDArray[np.float64]:
        """How far each change goes along the gradient."""
        found = self._rows @ gradient.flatten().to(self._rows)
        return np.asarray(found.double().cpu().numpy())


def own_parameter(model: nn.Module, key: Key, shape: torch.Size) -> nn.Parameter:
    """The parameter, no longer shared with other layers; a bias that was none is zero."""
    layer, name = key
    module = model.get_submodule(layer)
    held: Tensor | None = getattr(module, name)
    weight: Any = module.weight
    value = weight.new_zeros(shape) if held is None else held.detach().clone()
    parameter = nn.Parameter(value)
    setattr(module, name, parameter)
    return parameter
