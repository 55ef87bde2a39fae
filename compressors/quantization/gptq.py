"""GPTQ: weights rounded column by column, each error made good by the columns still to come.

The columns' corrections come from a triangular factor of the gram itself rather than from its
inverse: the same numbers as the published algorithm's, found by one factorisation. Columns are
taken in the order that the problem gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.quantization.rounding_problem import RoundingProblem

BLOCK = 128  # columns that are corrected one by one; what lies before is added at once


def gptq(problem: RoundingProblem) -> Tensor:
    """The integers: groups x rows x d."""
    weights = problem.weights
    shares = problem.shares()
    integers, missing = torch.empty_like(weights), torch.zeros_like(weights)
    for start in range(0, weights.shape[2], BLOCK):
        stop = min(start + BLOCK, weights.shape[2])
        block = slice(start, stop)
        targets = weights[..., block] + missing[..., :start] @ shares[:, :start, block]
        for i in range(start, stop):
            integers[..., i] = problem.nearest(targets[..., i - start], i)
            missing[..., i] = weights[..., i] - problem.values(integers[..., i], i)
            later = slice(i + 1, stop)
            targets[..., i + 1 - start :] += missing[..., i, None] * shares[:, None, i, later]
    return integers
