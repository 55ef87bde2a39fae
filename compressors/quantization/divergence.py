"""How much rounding to a range changes a distribution: the divergence that entropy ranges weigh.

Of a histogram, what lies outside the range is counted in the outermost bins inside; against it
stands what the levels keep: the mass inside, spread within each level evenly over its bins that
are not empty (as in TensorRT's calibration). Knows no formats.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-6  # probability that a bin is taken to have where the levels leave it none


def divergence(counts: Tensor, inside: Tensor, values: Tensor) -> Tensor:
    """Kullback and Leibler's, for every row of a histogram: rows x bins to rows.

    `values` are the rounded middles of the bins, ascending; where they agree, bins share a level.
    A range with nothing inside diverges without bound.
    """
    kept = counts * inside
    clipped = _with_outliers(counts, kept, inside)
    changes = (values.diff(dim=1) != 0).long()
    level = torch.cat([torch.zeros_like(changes[:, :1]), changes.cumsum(1)], 1)
    present = (clipped > 0).to(counts.dtype)
    mass = torch.zeros_like(counts).scatter_add_(1, level, kept)
    bins = torch.zeros_like(counts).scatter_add_(1, level, present)
    spread = (mass / bins.clamp(min=1)).gather(1, level) * present
    p = clipped / clipped.sum(1, keepdim=True)
    q = (spread / spread.sum(1, keepdim=True)).clamp(min=LEAST)
    terms = torch.where(p > 0, p * (p / q).log(), torch.zeros_like(p))
    found = terms.sum(1)
    return torch.where(kept.sum(1) > 0, found, torch.full_like(found, float("inf")))


def _with_outliers(counts: Tensor, kept: Tensor, inside: Tensor) -> Tensor:
    """What lies outside, in the outermost bins inside."""
    flags = inside.to(torch.int8)
    first = flags.argmax(1, keepdim=True)
    last = inside.shape[1] - 1 - flags.flip(1).argmax(1, keepdim=True)
    place = torch.arange(inside.shape[1], device=inside.device)
    below = (counts * (place < first)).sum(1, keepdim=True)
    above = (counts * (place > last)).sum(1, keepdim=True)
    return kept.scatter_add(1, first, below).scatter_add(1, last, above)
