"""Weights rounded so that the layer's output changes least, rather than each weight.

`gptq` rounds column by column and makes each error good in the next; `learned` goes on from
there, changing integers for as long as the output error falls. Both know of the layer's inputs
nothing but their second moments, and take the grids as they are given.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compressors.quantization.gptq import gptq
from compressors.quantization.learned_rounding import learned
from compressors.quantization.rounding_problem import problem_of


@torch.no_grad()
def round_weights(
    matrix: Tensor,
    scales: Tensor,
    zeros: Tensor,
    lowest: int,
    highest: int,
    gram: Tensor,
    kind: Literal["gptq", "learned"],
) -> Tensor:
    """The out x d weights on the grid scales * (k - zeros), lowest <= k <= highest.

    `gram` is groups x d x d, the mean of x x^T of what each group's rows are multiplied with.
    Weights that are 0 stay on the level nearest to it, so that a sparse layer stays sparse.
    """
    problem = problem_of(matrix, scales, zeros, lowest, highest, gram)
    integers = gptq(problem) if kind == "gptq" else learned(problem)
    return problem.matrix(integers).to(matrix.dtype)
