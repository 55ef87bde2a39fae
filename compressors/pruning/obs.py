"""Optimal brain surgery: weights and columns that go, while a row's others make up for them.

Single weights as SparseGPT does it: columns are gone through in order; what a column's zeros
would change in the outputs is taken up by the columns after it, by the inverse of the inputs'
second moments. Which weights go is decided for a span of columns when its turn comes, from
weights already changed. A weight behind the current column is never looked at again there, so in
the end all that are left are settled together, by conjugate gradients. Knows matrices alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compressors.pruning.selection import least, least_of_windows, removed_count
from compressors.pruning.weights import positions_last

DAMPING = 0.01  # of the mean diagonal, added to it
SETTLING = 10  # steps of conjugate gradients; on trained networks more gain next to nothing
SPAN = 128  # columns that are decided on together, where only a share is asked for


@dataclass(frozen=True)
class Selection:
    """How many weights go: a share of all, or all but n of every m inputs."""

    share: float | None
    kept_of: tuple[int, int] | None


def zeroed_by_error(blocks: Tensor, gram: Tensor, selection: Selection) -> tuple[Tensor, Tensor]:
    """New weights and the mask of kept ones; groups have a Gram matrix and their outputs each."""
    _, positions, inputs = blocks.shape
    moments = damped(positions_last(gram, positions))
    original = blocks.reshape(len(gram), -1, positions * inputs).double()
    factor: Tensor = torch.linalg.cholesky(_inverse(moments), upper=True)
    kept = torch.ones_like(original, dtype=torch.bool)
    matrix = original.clone()
    for start, end in _spans(positions * inputs, inputs, selection):
        scales = factor.diagonal(dim1=1, dim2=2)[:, None, start:end]
        gone = _chosen((matrix[:, :, start:end] / scales).square(), selection, matrix, start)
        kept[:, :, start:end] = ~gone
        _make_up(matrix, factor, gone, start, end)
    new = settled(matrix * kept, original, kept, moments.float())
    return new.view_as(blocks), kept.view_as(blocks)


def _make_up(matrix: Tensor, factor: Tensor, gone: Tensor, start: int, end: int) -> None:
    """Let the columns after those that lose weights take up what is lost, in place."""
    errors = torch.zeros_like(matrix[:, :, start:end])
    for column in range(start, end):
        lost = matrix[:, :, column] * gone[:, :, column - start]
        error = (lost / factor[:, column, column, None])[:, :, None]
        matrix[:, :, column:end] -= error * factor[:, None, column, column:end]
        errors[:, :, column - start] = error[:, :, 0]
    matrix[:, :, end:] -= errors @ factor[:, start:end, end:]


def settled(start: Tensor, original: Tensor, kept: Tensor, moments: Tensor) -> Tensor:
    """The kept weights moved to where the outputs' error is least, row by row; zeros stay."""
    scale = moments.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    change = (start - original).to(moments.dtype)
    rest = -(change @ moments) * kept
    step = rest / scale
    size = (rest * step).sum(-1, keepdim=True)
    for _ in range(SETTLING):
        pull = (step @ moments) * kept
        curve = (step * pull).sum(-1, keepdim=True)
        length = torch.where(curve > 0, size / curve, torch.zeros_like(size))
        change = change + length * step
        rest = rest - length * pull
        before, size = size, (rest * rest / scale).sum(-1, keepdim=True)
        step = rest / scale + torch.where(before > 0, size / before, torch.zeros_like(size)) * step
    return (original + change.to(original.dtype)) * kept


def damped(gram: Tensor) -> Tensor:
    """Gram matrices made safely positive definite, in double precision."""
    gram = gram.double()
    means = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    ridge = torch.where(means > 0, DAMPING * means, torch.ones_like(means))
    return gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype)


def damped_inverse(gram: Tensor) -> Tensor:
    """The inverse of damped Gram matrices."""
    return _inverse(damped(gram))


def _inverse(moments: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(moments))


def column_saliencies(matrix: Tensor, inverse: Tensor, columns: Tensor) -> Tensor:
    """The least error of removing columns (a row of indices at a time), the others adapting.

    The inverse is of the Gram matrix.
    """
    blocks = inverse[columns[:, :, None], columns[:, None, :]]
    removed = matrix[:, columns].permute(1, 2, 0)
    saliencies: Tensor = (removed * torch.linalg.solve(blocks, removed)).sum((1, 2))
    return saliencies


def _spans(columns: int, inputs: int, selection: Selection) -> Iterator[tuple[int, int]]:
    """Columns that are decided on together: never beyond one kernel position with a pattern."""
    length, limit = (selection.kept_of[1], inputs) if selection.kept_of else (SPAN, columns)
    for position in range(0, columns, limit):
        for start in range(position, position + limit, length):
            yield start, min(start + length, position + limit)


def _chosen(scores: Tensor, selection: Selection, matrix: Tensor, start: int) -> Tensor:
    """Whom a span loses; counts are rounded over all that came before, so that they add up."""
    if selection.kept_of is not None:
        return least_of_windows(scores, *selection.kept_of)
    share, before = selection.share or 0, start * matrix[:, :, 0].numel()
    count = removed_count(share, before + scores.numel()) - removed_count(share, before)
    return least(scores, count)
