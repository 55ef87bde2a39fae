"""The problem that GPTQ and learned rounding solve: one layer's weights, grids and inputs.

The error of a choice of integers is tr((W - Wq) G (W - Wq)^T), G the mean of x x^T over the
layer's inputs: the mean squared error of its output. Everything is in double precision where the
device has it. Knows nothing of how the integers are found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressors.errors import UserError
from compressors.quantization.column_order import smallest_pivots_last

DAMPING = 0.01  # of the mean of G's diagonal, added to it
LARGEST_DAMPING = 100.0


@dataclass(frozen=True)
class RoundingProblem:
    """Rows of weights, each value with the grid scale * (k - zero), lowest <= k <= highest.

    Columns stand in the order in which they are best rounded. `factor` is upper triangular, the
    gram = factor factor^T.
    """

    weights: Tensor  # groups x rows x d, as are scales and zeros
    scales: Tensor
    zeros: Tensor
    lowest: int
    highest: int
    gram: Tensor  # groups x d x d, damped
    factor: Tensor
    order: Tensor  # groups x d: which column of the matrix stands where

    def values(self, integers: Tensor, at: int | slice = slice(None)) -> Tensor:
        """The weights that the integers of some columns stand for."""
        return self.scales[..., at] * (integers - self.zeros[..., at])

    def shares(self, at: slice = slice(None)) -> Tensor:
        """How much of a column's (row of this) error each later column can make good."""
        factor = self.factor[:, at, at]
        return factor / factor.diagonal(dim1=1, dim2=2)[:, None, :]

    def rows(self, rows: slice) -> RoundingProblem:
        """The problem of some rows of every group."""
        weights, scales, zeros = (t[:, rows] for t in (self.weights, self.scales, self.zeros))
        return replace(self, weights=weights, scales=scales, zeros=zeros)

    def nearest(self, targets: Tensor, at: int | slice = slice(None)) -> Tensor:
        """The integers nearest to targets of some columns; weights that are 0 stay so."""
        weights, scales, zeros = (t[..., at] for t in (self.weights, self.scales, self.zeros))
        targets = torch.where(weights == 0, weights, targets)
        units = torch.where(scales > 0, targets / scales, 0)
        return (units + zeros).round().clamp(self.lowest, self.highest)

    def errors(self, integers: Tensor) -> Tensor:
        """Every row's error, damping included: groups x rows."""
        missing = self.weights - self.values(integers)
        return ((missing @ self.gram) * missing).sum(-1)

    def matrix(self, integers: Tensor) -> Tensor:
        """The weights that the integers stand for, out x d, columns in the matrix's own order."""
        values = self.values(integers)
        order = self.order[:, None, :].expand_as(values)
        return torch.empty_like(values).scatter_(2, order, values).flatten(0, 1)


def problem_of(
    matrix: Tensor, scales: Tensor, zeros: Tensor, lowest: int, highest: int, gram: Tensor
) -> RoundingProblem:
    """The problem of an out x d matrix whose rows are split evenly over the gram's groups."""
    groups, d = gram.shape[:2]
    exact = torch.float32 if matrix.device.type == "mps" else torch.float64
    gram = gram.to(matrix.device, exact)
    if not bool(gram.isfinite().all()) or not bool(matrix.isfinite().all()):
        raise UserError(
            "Rounding gptq or learned needs finite weights and calibration inputs, and a layer's"
            " hold NaN or infinity; valid: rounding nearest."
        )
    rows = [
        t.detach().to(matrix.device, exact).expand(matrix.shape).reshape(groups, -1, d)
        for t in (matrix, scales, zeros)
    ]
    damped, factor, order = _factorised((gram + gram.mT) / 2, rows[1].square().mean(1))
    weights, scales, zeros = (t.gather(2, order[:, None, :].expand_as(t)) for t in rows)
    return RoundingProblem(weights, scales, zeros, lowest, highest, damped, factor, order)


def _factorised(gram: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gram with what its diagonal needs to be factorised, the factor, the columns' order."""
    diagonal = gram.diagonal(dim1=1, dim2=2).clamp(min=0)
    mean = diagonal.mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, 1)
    damping = DAMPING
    while damping <= LARGEST_DAMPING:
        damped = gram + torch.diag_embed((damping * mean).expand_as(diagonal))
        order = smallest_pivots_last(damped, squares)
        damped = _permuted(damped, order)
        lower, failed = torch.linalg.cholesky_ex(damped.flip(1, 2))
        if not bool(failed.any()):
            return damped, lower.flip(1, 2), order
        damping *= 10
    plain = torch.diag_embed(diagonal + DAMPING * mean)  # no second moments at all
    order = torch.arange(gram.shape[1], device=gram.device).expand_as(diagonal)
    return plain, plain.sqrt(), order


def _permuted(gram: Tensor, order: Tensor) -> Tensor:
    rows = gram.gather(1, order[:, :, None].expand_as(gram))
    return rows.gather(2, order[:, None, :].expand_as(gram))
