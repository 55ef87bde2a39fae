"""Layers that compute in 8-bit integers, written in operators that every torch has.

A layer rounds its input to the simulation's own integers and multiplies them by the simulation's
own integer weights with `torch._int_mm`, which is the kernel of torchao's int8 tensors too. A
convolution gathers its windows first. What an offset of the input adds to the products is taken
out after them, exactly. Torch has no integer kernel for convolutions in groups: their integers are
multiplied as float numbers, exactly. (Depthwise sums of integers, tap by tap, took 1.5 to 6 times
as long as the float kernel.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.quantization.layers import LayerQuantization
from evaluation.targets.torch_device.rounding import Product, Rounded, RoundedInput
from evaluation.targets.torch_device.scaled import ScaledOutput
from evaluation.targets.torch_device.windows import Windows

GPU_ROWS = 17  # the fewest rows that the kernel of a GPU takes


class IntegerLayer(RoundedInput, ScaledOutput):
    """Integer weights, a scale for each output, a bias."""

    weight: Tensor

    def __init__(self, facts: LayerQuantization, bias: Tensor | None, product: Product) -> None:
        super().__init__(facts, product)
        assert facts.weight_scales is not None
        self.scale_by(facts.weight_scales.double() * (1.0 if self.dynamic else self.scale), bias)

    def scaled(self, rounded: Rounded) -> Tensor:
        """The scales of the outputs."""
        return self.scales if rounded.step is None else self.scales * rounded.step


class IntegerProduct(IntegerLayer):
    """Rows of numbers times integer weights, padded to the sizes that a device wants."""

    sums: Tensor | None  # of each output's weights; None where they add nothing, or in the bias

    def __init__(
        self, weight: Tensor, facts: LayerQuantization, bias: Tensor | None, product: Product
    ) -> None:
        super().__init__(facts, bias, product)
        self.count, self.more = len(weight), -weight.shape[1] % product.multiple
        wide = F.pad(weight.to(torch.int8), (0, self.more, 0, -self.count % product.multiple))
        self.register_buffer("weight", wide.t().contiguous())
        sums = weight.long().sum(1)
        if not self.dynamic and self.offset:
            kept = 0 if self.bias is None else self.bias.double()
            self.bias = (kept - self.offset * sums * self.scales.double()).float()
        kept_sums = self.dynamic and (self.offset or not self.by_row)
        self.register_buffer("sums", sums.float() if kept_sums else None)

    def product(self, rows: Tensor, rounded: Rounded) -> Tensor:
        """The outputs of rows of numbers."""
        numbers, scales = self._multiplied(rows).float(), self.scaled(rounded)
        if self.sums is not None:
            numbers = numbers - self.sums * rounded.offset
        return numbers * scales if self.bias is None else torch.addcmul(self.bias, numbers, scales)

    def _multiplied(self, rows: Tensor) -> Tensor:
        if self.kernel_takes.multiple == 1:
            return torch._int_mm(rows, self.weight)
        wide = F.pad(rows, (0, self.more, 0, GPU_ROWS))
        return torch._int_mm(wide, self.weight)[: rows.shape[0], : self.count]


class IntegerLinear(IntegerProduct):
    """A linear layer in integers."""

    def __init__(self, layer: nn.Linear, facts: LayerQuantization, product: Product) -> None:
        super().__init__(_integers(facts), facts, layer.bias, product)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        rounded = self.rounded(self.smoothed(x))
        rows = rounded.numbers.reshape(-1, x.shape[-1])
        return self.product(rows, rounded).view(*x.shape[:-1], self.count)


class IntegerConv2d(IntegerProduct):
    """A convolution of one group in integers."""

    def __init__(self, layer: nn.Conv2d, facts: LayerQuantization, product: Product) -> None:
        rows = _integers(facts).permute(0, 2, 3, 1).flatten(1)
        super().__init__(rows, facts, layer.bias, product)
        self.windows = Windows.of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, channels last in memory."""
        windows, rounded = self._gathered(x)
        count, high, wide = windows.shape[:3]
        rows = windows.reshape(count * high * wide, -1)
        outputs = self.product(rows, rounded)
        return outputs.view(count, high, wide, self.count).permute(0, 3, 1, 2)

    def _gathered(self, x: Tensor) -> tuple[Tensor, Rounded]:
        """What the windows see, and how it was rounded; margins hold what stands for 0."""
        early = self.dynamic or self.windows.mode != "zeros"
        rounded = self.rounded(self.smoothed(self.windows.with_margins(x) if early else x))
        numbers = rounded.numbers.permute(0, 2, 3, 1)
        if not early:
            numbers = self.windows.margins_of(numbers, self.offset)
        return self.windows.seen(numbers), rounded


class GroupedConv2d(IntegerLayer):
    """A convolution in groups, of integers as float numbers: fewer bytes, and no time saved."""

    def __init__(self, layer: nn.Conv2d, facts: LayerQuantization) -> None:
        super().__init__(facts, layer.bias, Product())
        self.register_buffer("weight", _integers(facts).to(torch.int8))
        self._layer = [layer]  # in a list, so that its weight is no parameter of this module

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        rounded = self.rounded(self.smoothed(x))
        levels = rounded.numbers.float() - rounded.offset
        products = self._layer[0]._conv_forward(levels, self.weight.float(), None)
        outputs: Tensor = products * self.scaled(rounded).view(-1, 1, 1)
        return outputs if self.bias is None else outputs + self.bias.view(-1, 1, 1)


def _integers(facts: LayerQuantization) -> Tensor:
    assert facts.weight_integers is not None
    return facts.weight_integers
