"""A layer's weight as a matrix whose columns meet the inputs that calibration correlates.

Knows nothing of what the columns are removed for.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TypeGuard

import torch
from torch import Tensor, nn

MOST_COLUMNS = 8192  # beyond, a matrix of columns by columns is too large to be solved in a trial
Columned = nn.Linear | nn.Conv1d | nn.Conv2d


def multiplies(module: nn.Module) -> TypeGuard[Columned]:
    """Whether the layer's own weight is multiplied with its input, and nothing else is done."""
    kind = next((k for k in (nn.Linear, nn.Conv1d, nn.Conv2d) if isinstance(module, k)), None)
    if kind is None or "weight" not in module._parameters:
        return False
    return type(module).forward is kind.forward


def sees_columns(module: nn.Module) -> TypeGuard[Columned]:
    """Whether the layer's weight is one matrix times vectors of its input."""
    return multiplies(module) and getattr(module, "groups", 1) == 1


def taps(layer: nn.Module) -> int:
    """Columns that each input feature has: one, or the positions of a kernel."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return prod(weight.shape[2:])


def column_count(layer: nn.Module) -> int:
    """Columns of the matrix."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel()


def columns_of(layer: nn.Module, features: Iterable[int]) -> Tensor:
    """The columns of input features, a row for each."""
    width = taps(layer)
    return torch.tensor(list(features))[:, None] * width + torch.arange(width)
