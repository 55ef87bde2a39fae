"""Formats of weights that fit their own levels: ternary, binary, and a codebook by k-means.

Each is fitted for least squared error, so that ranges are of no account to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.policies.steps import Ranges
from compressors.quantization.kmeans import fit_centres
from compressors.quantization.number_format import (
    SMALLEST_SCALE,
    Dims,
    Ends,
    Grid,
    mean_magnitude,
    safe,
)

EVERYWHERE = (float("-inf"), float("inf"))


class _Fitted:
    """What the three have in common: the scale follows the mean magnitude, gradients all pass."""

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """The mean magnitude."""
        return mean_magnitude(x, dims)

    def grid(self, ends: Ends) -> Grid:
        """The end itself."""
        return Grid(safe(ends[0]))

    def ends_of(self, grid: Grid) -> Ends:
        """The scale."""
        return (grid.scale,)

    def bounds(self, grid: Grid) -> tuple[float, float]:
        """Nothing is clamped."""
        del grid
        return EVERYWHERE


class Ternary(_Fitted):
    """-s, 0 and s; s and what becomes 0 are the best there are."""

    bits, reach, flat = 2, 1.0, False

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """Of the k largest magnitudes, the mean: for the k at which the error is least."""
        del ranges
        magnitudes = _living(rows.abs(), alive).sort(dim=1, descending=True).values.double()
        counts = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=torch.float64)
        sums = magnitudes.cumsum(1)
        best = (sums.square() / counts).argmax(1, keepdim=True)
        return Grid(safe((sums / counts).gather(1, best)[:, 0].to(rows.dtype)))

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """Beyond half of s it is s."""
        del grid
        return units.round().clamp_(-1, 1)

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """0, 1, 2."""
        del grid
        return (levels + 1).to(torch.int32)

    def table(self) -> Tensor:
        """The three levels."""
        return torch.tensor([-1.0, 0.0, 1.0])


class Binary(_Fitted):
    """-s and s, the mean magnitude; 0 counts as positive. A set of zeros has next to no s."""

    bits, reach, flat = 1, 1.0, False

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """The mean magnitude of what is alive."""
        del ranges
        count = rows.shape[1] if alive is None else alive.sum(1).clamp(min=1)
        return self.grid((_living(rows.abs(), alive).double().sum(1).to(rows.dtype) / count,))

    def grid(self, ends: Ends) -> Grid:
        """The end itself, never 0: having no level 0, zeros come out as large as the scale."""
        return Grid(ends[0].clamp(min=SMALLEST_SCALE))

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The sign."""
        del grid
        ones = torch.ones_like(units)
        return torch.where(units.isnan(), units, torch.where(units < 0, -ones, ones))

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """0 and 1."""
        del grid
        return (levels > 0).to(torch.int32)

    def table(self) -> Tensor:
        """The two levels."""
        return torch.tensor([-1.0, 1.0])


class KMeans(_Fitted):
    """2^bits levels of each set's own, in units of its mean magnitude."""

    reach, flat = 1.0, True

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """By Lloyd's iteration; what is not alive has no say."""
        del ranges
        scale = self.grid(self.ends(_living(rows, alive), (1,))).scale[:, 0]
        centres = fit_centres(rows, alive, 2**self.bits)
        return Grid(scale, levels=(centres / scale[:, None].double()).to(rows.dtype))

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The nearest level."""
        found = _book(grid).gather(1, self._places(units, grid))
        return torch.where(units.isnan(), units, found)

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """The order by value."""
        return self._places(levels, grid).to(torch.int32)

    def table(self) -> Tensor | None:
        """None: every set has its own."""
        return None

    def _places(self, units: Tensor, grid: Grid) -> Tensor:
        book = _book(grid)
        middles = (book[:, 1:] + book[:, :-1]) / 2
        return torch.searchsorted(middles.contiguous(), units.contiguous())


def _book(grid: Grid) -> Tensor:
    assert grid.levels is not None
    return grid.levels


def _living(rows: Tensor, alive: Tensor | None) -> Tensor:
    return rows if alive is None else rows * alive
