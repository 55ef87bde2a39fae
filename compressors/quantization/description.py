"""What a quantised layer stands for, as data: codes, scales, levels, the input's grid.

Every code is exact: decoded, it gives the weight that the layer computes with, to the last bit of
a single-precision model. Knows no runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.policies.steps import InputFormat
from compressors.quantization.affine import Symmetric
from compressors.quantization.granularity import Layout
from compressors.quantization.number_format import Grid
from compressors.quantization.weight_quantizer import WeightQuantizer
from compressors.quantization.wrapper import QuantizedLayer


@dataclass(frozen=True)
class StoredWeight:
    """A weight as codes in rows, one an output channel; `group` codes of a row share a scale.

    A weight is levels[code] * scale, or (code - zero) * scale where there are no levels. Scales
    are (rows or 1) x groups, zeros shaped so too; of levels there is one row for all scales, or
    one for each.
    """

    shape: tuple[int, ...]  # of the weight
    axis: int  # of its output channels
    bits: int
    codes: Tensor  # int32, rows x the rest, from 0 to 2^bits - 1
    scales: Tensor
    group: int
    zeros: Tensor | None = None
    levels: Tensor | None = None
    alive: Tensor | None = None  # bool, shaped as the codes; what is not is 0; None: all are

    def values(self) -> Tensor:
        """The weight."""
        place = torch.arange(self.codes.shape[1]) // self.group
        scales = self.scales[:, place]
        if self.levels is not None:
            values = self._levels(self.levels, place) * scales
        else:
            assert self.zeros is not None
            values = (self.codes - self.zeros[:, place]).to(scales.dtype) * scales
        if self.alive is not None:
            values = values * self.alive
        moved = (self.shape[self.axis], *self.shape[: self.axis], *self.shape[self.axis + 1 :])
        return values.reshape(moved).movedim(0, self.axis)

    def _levels(self, levels: Tensor, place: Tensor) -> Tensor:
        codes = self.codes.long()
        if len(levels) == 1:
            return levels[0][codes]
        row = torch.arange(len(codes))[:, None] * self.scales.shape[1] + place
        return levels[row, codes]


@dataclass(frozen=True)
class LayerQuantization:
    """What a target needs to know of one quantised layer; None where left in float.

    Of symmetric weights with a scale for each output channel (or one in all, said of each), the
    simulated weight is integers * scales. Whatever the format, `stored` has the codes. The
    simulated input is (clamp(round(x / scale) + zero_point, 0, 2^bits - 1) - zero_point) * scale;
    with `dynamic` the scale and the zero point are every input's own, with `by_row` the scale is
    every row's own and the zero point is the middle. With inputs that are not affine it is the
    8-bit float nearest to x / scale, saturated, times the scale.
    """

    weight_bits: int | None
    weight_scales: Tensor | None
    weight_integers: Tensor | None  # int8 (int16 beyond 8 bits), shaped as the weight
    activation_bits: int | None
    scale: float | None
    zero_point: int | None
    function: str | None = None
    granularity: str | None = None
    group: int | None = None
    dynamic: bool = False
    by_row: bool = False
    inputs: InputFormat = "affine"
    smoothing: Tensor | None = None  # inputs are divided by it, before they are rounded
    stored: StoredWeight | None = None


def describe(model: nn.Module) -> dict[str, LayerQuantization]:
    """Every quantised layer by module path."""
    modules = model.named_modules()
    return {name: _layer(module) for name, module in modules if isinstance(module, QuantizedLayer)}


@torch.no_grad()
def _layer(wrapper: QuantizedLayer) -> LayerQuantization:
    weights, inputs, settings = (
        wrapper.weight_quantizer,
        wrapper.input_quantizer,
        wrapper.settings,
    )
    weight = wrapper.smoothed_weight()
    fixed = inputs is not None and not inputs.dynamic
    scales, integers = (None, None) if weights is None else _integers(weights, weight)
    return LayerQuantization(
        weight_bits=weights.bits if weights else None,
        weight_scales=scales,
        weight_integers=integers,
        activation_bits=inputs.bits if inputs else None,
        scale=float(inputs.current_scale()) if inputs and fixed else None,
        zero_point=int(inputs.zero_point) if inputs and fixed else None,
        function=settings.function if weights else None,
        granularity=settings.granularity if weights else None,
        group=settings.group if weights and settings.granularity == "group" else None,
        dynamic=settings.dynamic,
        by_row=settings.by_row,
        inputs=settings.inputs,
        smoothing=wrapper.smoothing,
        stored=stored(weights, weight) if weights else None,
    )


def _integers(weights: WeightQuantizer, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if not isinstance(weights.format, Symmetric) or weights.layout.granularity == "group":
        return None, None
    integers = weights.codes(weight) - weights.format.highest
    if weights.mask is not None:
        integers = integers * weights.mask
    scales = weights.grid(weight).scale.expand(weights.layout.channels).clone()
    return scales, integers.to(torch.int8 if weights.bits <= 8 else torch.int16)


def stored(weights: WeightQuantizer, weight: Tensor) -> StoredWeight:
    """The weight's codes, on the CPU."""
    layout, grid = weights.layout, weights.grid(weight)
    mask = None if weights.mask is None else layout.matrix(weights.mask).bool().cpu()
    return StoredWeight(
        layout.shape,
        layout.axis,
        weights.bits,
        layout.matrix(weights.codes(weight)).contiguous().cpu(),
        _table(grid.scale, layout),
        layout.width,
        _zeros(weights, grid),
        _levels(weights, grid),
        mask,
    )


def _table(values: Tensor, layout: Layout) -> Tensor:
    rows = 1 if layout.granularity == "tensor" else layout.channels
    return values.reshape(rows, -1).cpu()


def _zeros(weights: WeightQuantizer, grid: Grid) -> Tensor | None:
    if grid.zero is not None:
        return _table(grid.zero, weights.layout).to(torch.int32)
    if isinstance(weights.format, Symmetric):
        zero = torch.full_like(grid.scale, weights.format.highest)
        return _table(zero, weights.layout).to(torch.int32)
    return None


def _levels(weights: WeightQuantizer, grid: Grid) -> Tensor | None:
    if grid.levels is not None:
        return grid.levels.cpu()
    table = weights.format.table()
    return None if table is None else table[None]
