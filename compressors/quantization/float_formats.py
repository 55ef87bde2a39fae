"""Formats of weights whose levels stand closer near zero: powers of two, and 8-bit floats."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compressors.policies.steps import Ranges
from compressors.quantization.number_format import Dims, Ends, Grid, largest, safe
from compressors.quantization.ranges import fit_ends

MIDDLE = 0.75  # between two powers of two, as a share of the larger
DTYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


class Log:
    """0 and both signs of 2^(bits-1) - 1 powers of two, the scale the largest of them."""

    flat = False
    reach = 1.0

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.powers: int = 2 ** (bits - 1) - 1

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """By the ranges."""
        return fit_ends(self, rows, alive, ranges)

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """The largest magnitude."""
        return largest(x, dims)

    def grid(self, ends: Ends) -> Grid:
        """The power of two nearest to the end."""
        end = safe(ends[0])
        return Grid(torch.ldexp(torch.ones_like(end), _exponent(end)))

    def ends_of(self, grid: Grid) -> Ends:
        """The largest power."""
        return (grid.scale,)

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """The nearest power in value, or 0."""
        del grid
        magnitude, least = units.abs(), 1 - self.powers
        exponent = _exponent(magnitude).clamp_(least, 0)
        power = torch.ldexp(torch.ones_like(units), exponent).copysign(units)
        power = torch.where(magnitude < 2.0 ** (least - 1), torch.zeros_like(power), power)
        return torch.where(units.isnan(), units, power)

    def bounds(self, grid: Grid) -> tuple[float, float]:
        """Where the next power would be nearer."""
        del grid
        return -2 * MIDDLE, 2 * MIDDLE

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """Their order by value: the most negative is 0, zero stands in the middle."""
        del grid
        steps = self.powers - 1 + _exponent(levels.abs()) + 1
        signed = torch.where(levels == 0, torch.zeros_like(levels), levels.sign() * steps)
        return (signed + self.powers).to(torch.int32)

    def table(self) -> Tensor:
        """All levels by value."""
        powers = 2.0 ** torch.arange(1 - self.powers, 1, dtype=torch.float64)
        return torch.cat([-powers.flip(0), torch.zeros(1), powers]).float()


def _exponent(x: Tensor) -> Tensor:
    """Of the power of two nearest to a positive number."""
    mantissa, exponent = torch.frexp(x)
    return exponent - (mantissa < MIDDLE).to(exponent.dtype)


class Float8:
    """An 8-bit float times a scale that takes the end of the range to the largest float."""

    flat = False
    bits = 8

    def __init__(self, kind: Literal["e4m3", "e5m2"]) -> None:
        self.dtype = DTYPES[kind]
        self.reach: float = torch.finfo(self.dtype).max

    def fit(self, rows: Tensor, alive: Tensor | None, ranges: Ranges) -> Grid:
        """By the ranges."""
        return fit_ends(self, rows, alive, ranges)

    def ends(self, x: Tensor, dims: Dims) -> Ends:
        """The largest magnitude."""
        return largest(x, dims)

    def grid(self, ends: Ends) -> Grid:
        """The end is the largest float."""
        return Grid(safe(ends[0] / self.reach))

    def ends_of(self, grid: Grid) -> Ends:
        """The largest float."""
        return (grid.scale * self.reach,)

    def nearest(self, units: Tensor, grid: Grid) -> Tensor:
        """As torch casts, saturated."""
        del grid
        return units.clamp(-self.reach, self.reach).to(self.dtype).to(units.dtype)

    def bounds(self, grid: Grid) -> tuple[float, float]:
        """Somewhat less than half a step beyond the largest floats."""
        del grid
        edge = self.reach * (1 + torch.finfo(self.dtype).eps / 4)
        return -edge, edge

    def codes(self, levels: Tensor, grid: Grid) -> Tensor:
        """The float's own byte."""
        del grid
        return levels.to(self.dtype).view(torch.uint8).to(torch.int32)

    def table(self) -> Tensor:
        """The float of every byte; some are none, and never used."""
        return torch.arange(256, dtype=torch.int16).to(torch.uint8).view(self.dtype).float()
