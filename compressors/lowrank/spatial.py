"""Spatial factors weighed by the inputs: what a column of a patch holds, and what follows from it.

A patch is (inputs, height, width) values, and the first factor is multiplied with each of its
columns alike. So the first is found with the Gram matrix of a column: the blocks of the patch's
Gram matrix where both values are in the same column, averaged over the columns. That leaves out
how columns go together; the second factor is then fitted to the whole Gram matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.lowrank.decompositions import damped, root_of

ALREADY_DAMPED = 1e-12


def column_gram(gram: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The mean Gram matrix of a patch's columns."""
    _, inputs, height, width = shape
    blocks = gram.reshape(inputs, height, width, inputs, height, width)
    mean = torch.einsum("cijdkj->cidk", blocks) / width
    return mean.reshape(inputs * height, inputs * height)


def fitted(weight: Tensor, first: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """A first factor made orthonormal, and the second that errs least after it.

    `first` is rank x (inputs, height); the second is (outputs, width) x rank.
    """
    outputs, inputs, height, width = weight.shape
    first = torch.linalg.qr(first.T).Q.T
    rank = len(first)
    columns = first.reshape(rank, inputs, height)
    patch = inputs * height * width
    blocks = damped(gram).reshape(patch, inputs, height, width)
    seen = torch.einsum("pcij,rci->prj", blocks, columns)  # patch against the first layer's outputs
    between = torch.einsum(
        "cijsk,rci->rjsk", seen.reshape(inputs, height, width, rank, width), columns
    )
    target = weight.reshape(outputs, patch) @ seen.reshape(patch, rank * width)
    root = root_of(between.reshape(rank * width, rank * width), ALREADY_DAMPED)
    second = torch.cholesky_solve(target.T, root).T.reshape(outputs, rank, width)
    return first, second.transpose(1, 2).reshape(outputs * width, rank)
