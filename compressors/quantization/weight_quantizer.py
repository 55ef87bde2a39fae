"""A layer's weight on its grid, and the three ways in which the grid may go along in training.

Outside training the grid is fixed: buffers with one value for each set of weights that share a
scale. In training (`set_mode`) it may follow the weights' statistics, stay, or be learned, and is
fixed again afterwards (`freeze`). Weights that a mask makes zero are zero here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from compressors.policies.policy import Scales
from compressors.policies.steps import Quantize
from compressors.quantization.affine import Asymmetric, Symmetric
from compressors.quantization.codebooks import Binary, KMeans, Ternary
from compressors.quantization.float_formats import Float8, Log
from compressors.quantization.granularity import Layout, layout_of
from compressors.quantization.number_format import Grid, NumberFormat
from compressors.quantization.straight_through import (
    learned_scale,
    round_to_grid,
    round_to_levels,
)

FORMATS: dict[str, Callable[[int], NumberFormat]] = {
    "symmetric": Symmetric,
    "asymmetric": Asymmetric,
    "log": Log,
    "kmeans": KMeans,
    "ternary": lambda _: Ternary(),
    "binary": lambda _: Binary(),
    "e4m3": lambda _: Float8("e4m3"),
    "e5m2": lambda _: Float8("e5m2"),
}
State = Mapping[str, Tensor]  # scale, zero and levels, those that the format has


class WeightQuantizer(nn.Module):
    """Rounds the weight of one layer."""

    scale: Tensor
    zero: Tensor | None
    levels: Tensor | None
    mask: Tensor | None
    _low: Tensor | None
    _high: Tensor | None

    def __init__(
        self, layer: nn.Module, settings: Quantize, state: State, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        assert settings.weights is not None
        self.bits: int = settings.weights
        self.format = FORMATS[settings.function](settings.weights)
        self.layout = _layout(layer, settings, self.format)
        self.mode: Scales = "fixed"
        self.log_step: nn.Parameter | None = None
        for name in ("scale", "zero", "levels"):
            self.register_buffer(name, state.get(name))
        self.register_buffer("mask", mask)
        self.register_buffer("_low", None, persistent=False)
        self.register_buffer("_high", None, persistent=False)

    def grid(self, weight: Tensor) -> Grid:
        """The grid at this moment, one value a set."""
        if self.log_step is not None:
            elements = weight.numel() // max(self.layout.sets, 1)
            scale = learned_scale(self.log_step, self.scale, elements, self.format.reach)
            return Grid(scale, self.zero, self.levels)
        if self.mode == "statistics" and self._low is not None:
            return self._following(weight)
        return Grid(self.scale, self.zero, self.levels)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it will be after quantisation."""
        x, layout = self.layout.open(computable(weight)), self.layout
        grid = self._spread(self.grid(weight))
        if isinstance(self.format, Symmetric) and self.log_step is None:
            x = round_to_grid(x, grid.scale, -self.format.highest, self.format.highest)
        else:
            low, high = self.format.bounds(grid)
            nearest = self.format.nearest
            x = round_to_levels(x, grid.scale, lambda units: nearest(units, grid), low, high)
        x = layout.close(x)
        if self.mask is not None:
            x = x * self.mask
        return x.to(weight.dtype)

    @torch.no_grad()
    def codes(self, weight: Tensor) -> Tensor:
        """The whole number of every weight, from 0 to 2^bits - 1, shaped as the weight."""
        grid = self._spread(self.grid(weight))
        units = self.layout.open(computable(weight)) / grid.scale
        return self.layout.close(self.format.codes(self.format.nearest(units, grid), grid))

    @torch.no_grad()
    def set_mode(self, mode: Scales, weight: Tensor) -> None:
        """How the grid goes along with training from here on."""
        self.freeze(weight)
        self.mode = mode
        if mode == "statistics":
            ends = self._ends(weight)
            covered = self.format.ends_of(Grid(self.scale, self.zero, self.levels))
            pairs = zip(covered, ends, strict=True)
            shares = [
                torch.where(end != 0, part / end, torch.ones_like(end)) for part, end in pairs
            ]
            self._low, self._high = shares[0], shares[-1]
        elif mode == "learned" and not isinstance(self.format, Log):
            self.log_step = nn.Parameter(torch.zeros_like(self.scale))

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Fix the grid as it is now."""
        grid = self.grid(weight)
        self.scale = grid.scale.detach().clone()
        self.zero = None if grid.zero is None else grid.zero.clone()
        self.log_step, self._low, self._high = None, None, None
        self.mode = "fixed"

    def _following(self, weight: Tensor) -> Grid:
        assert self._low is not None
        assert self._high is not None
        ends = self._ends(weight.detach())
        shares = (self._low,) if len(ends) == 1 else (self._low, self._high)
        grid = self.format.grid(tuple(e * s for e, s in zip(ends, shares, strict=True)))
        return Grid(grid.scale, grid.zero, self.levels)

    def _ends(self, weight: Tensor) -> tuple[Tensor, ...]:
        x = self.layout.open(computable(weight))
        return tuple(end.reshape(-1) for end in self.format.ends(x, self.layout.dims))

    def _spread(self, grid: Grid) -> Grid:
        spread = self.layout.spread
        zero = None if grid.zero is None else spread(grid.zero)
        return Grid(spread(grid.scale), zero, grid.levels)


def fit(layer: nn.Module, weight: Tensor, settings: Quantize, mask: Tensor | None) -> State:
    """The grid of a weight as the settings want it."""
    assert settings.weights is not None
    number_format = FORMATS[settings.function](settings.weights)
    layout = _layout(layer, settings, number_format)
    rows = layout.rows(computable(weight.detach()))
    grid = number_format.fit(rows, layout.alive(mask, rows.device), settings.ranges)
    found = {"scale": grid.scale, "zero": grid.zero, "levels": grid.levels}
    return {name: part.contiguous() for name, part in found.items() if part is not None}


def computable(x: Tensor) -> Tensor:
    """The same numbers in single precision, or in double where they are so."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _layout(layer: nn.Module, settings: Quantize, number_format: NumberFormat) -> Layout:
    return layout_of(layer, settings.granularity, settings.group, flat=number_format.flat)
