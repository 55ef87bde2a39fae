"""Full decompositions of matrices, from which every rank is cut: plain, or weighed by inputs.

The best approximation of rank r leaves M E = U_r U_r^T M, or M V_r V_r^T, where the left out
singular values are those of M L; L L^T is the inputs' Gram matrix, or the identity. So the small
side's vectors and the singular values are all that need be kept. Knows nothing of layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compressors.calibration.cache import Tensors

DAMPING = 1e-4  # share of the mean of a Gram matrix's diagonal that is added to it
MOST_DAMPING = 1.0


@dataclass(frozen=True)
class Decomposition:
    """Of a matrix: singular values, and what the two factors of every rank are cut from."""

    matrix: Tensor
    kept: Tensors  # `values`, `up` (of a wide matrix) or `down` and `up` (of a tall one)

    @property
    def values(self) -> Tensor:
        """All singular values, the largest first."""
        return self.kept["values"]

    def cut(self, rank: int) -> tuple[Tensor, Tensor]:
        """The factors of a rank: rank x columns, and rows x rank."""
        up = self.kept["up"][:, :rank].to(self.matrix)
        if "down" not in self.kept:
            return up.T @ self.matrix, up
        return self.kept["down"][:rank].to(self.matrix), self.matrix @ up


def decompose(matrix: Tensor, gram: Tensor | None = None) -> dict[str, Tensor]:
    """What a `Decomposition` keeps; with a Gram matrix of the columns' inputs, weighed by it."""
    rows, columns = matrix.shape
    root = None if gram is None else root_of(gram)
    seen = matrix if root is None else matrix @ root
    if rows <= columns:
        left, values, _ = torch.linalg.svd(torch.linalg.qr(seen.T, mode="r").R.T)
        return {"values": values, "up": left.contiguous()}
    _, values, right = torch.linalg.svd(torch.linalg.qr(seen, mode="r").R)
    if root is None:
        return {"values": values, "up": right.T.contiguous(), "down": right.contiguous()}
    down = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return {"values": values, "up": (root @ right.T).contiguous(), "down": down.contiguous()}


def left_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """All singular values and left singular vectors."""
    if len(matrix) <= matrix.shape[1]:
        kept = decompose(matrix)
        return kept["values"], kept["up"]
    left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return values, left


def damped(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """A Gram matrix made safe to invert; that of inputs that were all zero says nothing: I."""
    mean = gram.diagonal().mean()
    if not mean > 0:
        return torch.eye(len(gram)).to(gram)
    return gram + damping * mean * torch.eye(len(gram)).to(gram)


def root_of(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """A lower triangular L with L L^T the damped Gram matrix, damped further where it must be."""
    while damping <= MOST_DAMPING:
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(damped(gram, damping))
        if not int(failed):
            return root
        damping *= 10
    return torch.eye(len(gram)).to(gram)


def balanced(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, each component as large in the first factor as in the second.

    Components are the first factor's rows and the second's columns.
    """
    ahead, behind = first.norm(dim=1), second.norm(dim=0)
    usable = (ahead > 0) & (behind > 0)
    scale = torch.where(usable, (behind / ahead.clamp_min(1e-300)).sqrt(), torch.ones_like(ahead))
    return first * scale[:, None], second / scale
