"""Integer formats of weights: symmetric around zero, and with a zero point."""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.policies.steps import Ranges
from compressors.quantization.number_format import Dims, Ends, Grid, largest, safe
from compressors.quantization.ranges import fit_ends


class Symmetric:
    """Narrow: integers from -(2^(bits-1) - 1) to its opposite."""

    flat = False

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.highest: int = 2 ** (bits - 1) - 1
        self.reach = float(self.highest)

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """By the ranges."""
        return fit_ends(self, rows, alive, ranges)

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """The largest magnitude."""
        return largest(x, dims)

    def grid(self, ends: Ends) -> Grid:
        """As many scales as there are integers."""
        return Grid(safe(ends[0] / self.highest))

    def ends_of(self, grid: Grid) -> Ends:
        """The outermost level."""
        return (grid.scale * self.highest,)

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The nearest integer, halves to even."""
        del grid
        return units.round().clamp_(-self.highest, self.highest)

    def bounds(self, grid: Grid) -> tuple[float, float]:
        """Half a step beyond the outermost."""
        del grid
        return -self.highest - 0.5, self.highest + 0.5

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """The lowest integer is 0."""
        del grid
        return (levels + self.highest).to(torch.int32)

    def table(self) -> Tensor | None:
        """None: its levels are integers."""
        return None


class Asymmetric:
    """Integers from 0 to 2^bits - 1 less a zero point; 0.0 is one of the values."""

    flat = False

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.highest: int = 2**bits - 1
        self.reach = float(self.highest)

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """By the ranges."""
        return fit_ends(self, rows, alive, ranges)

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """The least and the largest value, or zero."""
        low, high = torch.amin(x, dims, keepdim=True), torch.amax(x, dims, keepdim=True)
        return low.clamp(max=0), high.clamp(min=0)

    def grid(self, ends: Ends) -> Grid:
        """The integers over the whole range, shifted so that one of them is at zero."""
        low, high = ends
        scale = safe((high - low) / self.highest)
        return Grid(scale, (-low / scale).round().clamp(0, self.highest))

    def ends_of(self, grid: Grid) -> Ends:
        """The outermost levels."""
        zero = _zero(grid)
        return -zero * grid.scale, (self.highest - zero) * grid.scale

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The nearest integer, halves to even."""
        zero = _zero(grid)
        return torch.clamp(units.round(), -zero, self.highest - zero)

    def bounds(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Half a step beyond the outermost."""
        zero = _zero(grid)
        return -zero - 0.5, self.highest - zero + 0.5

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """The zero point is added back."""
        return (levels + _zero(grid)).to(torch.int32)

    def table(self) -> Tensor | None:
        """None: its levels are integers."""
        return None


def _zero(grid: Grid) -> Tensor:
    assert grid.zero is not None
    return grid.zero
