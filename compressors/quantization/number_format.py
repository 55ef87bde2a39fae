"""What a number format of weights is: levels in units of a scale, and where the scale comes from.

A format knows no layers and no granularity: it is given tensors laid open so that a scale
broadcasts over its set, and, to be fitted, rows with one set each. Formats whose scale follows
from where the values end (`ends`) leave to `ranges` how much of that to cover; the others fit
themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from compressors.policies.steps import Ranges

SMALLEST_SCALE = 1e-30
Ends = tuple[Tensor, ...]
Dims = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """What turns levels into values: a scale a set, and what the format has besides."""

    scale: Tensor
    zero: Tensor | None = None  # the integer that stands for 0, of the asymmetric format
    levels: Tensor | None = None  # sets x 2^bits, ascending, in scales: of codebooks


class NumberFormat(Protocol):
    """One number format at one width."""

    bits: int
    reach: float  # the largest level, in scales
    flat: bool  # whether it rounds rows alone

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """The grid of every row, its parts one value a row; what is not alive does not count."""
        ...

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """What of the values the scale is taken from; the dimensions are kept."""
        ...

    def grid(self, ends: Ends) -> Grid:
        """The grid that covers these ends."""
        ...

    def ends_of(self, grid: Grid) -> Ends:
        """The ends that a grid covers."""
        ...

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The level nearest to each value in scales."""
        ...

    def bounds(self, grid: Grid) -> tuple[Tensor | float, Tensor | float]:
        """Between which values in scales nothing is clamped."""
        ...

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """The code of every level, from 0 to 2^bits - 1."""
        ...

    def table(self) -> Tensor | None:
        """The level of every code, where all sets have the same and they are no integers."""
        ...


def safe(scale: Tensor) -> Tensor:
    """A scale to divide by: sets that are zero throughout get 1."""
    return torch.where(scale > 0, scale.clamp(min=SMALLEST_SCALE), torch.ones_like(scale))


def largest(x: Tensor, dims: Dims) -> Ends:
    """The largest magnitude."""
    low, high = torch.amin(x, dims, keepdim=True), torch.amax(x, dims, keepdim=True)
    return (torch.maximum(-low, high),)


def mean_magnitude(x: Tensor, dims: Dims) -> Ends:
    """The mean magnitude."""
    return (x.abs().mean(dims, keepdim=True),)
