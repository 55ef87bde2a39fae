"""Layers that compute in 8-bit integers, written in operators that every torch has.

A layer rounds its input to the simulation's own integers, less 128 so that they fit signed ones,
and multiplies them by the simulation's own integer weights with `torch._int_mm`, which is the
kernel of torchao's int8 layers too (their own rounding of activations, symmetric and by row, is
not what a policy means). A convolution gathers its windows first. What the shift and the zero
point add is taken out after the product, exactly. Convolutions in groups have no such kernel:
their integers are multiplied as float numbers, exactly, which saves bytes and no time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.quantization.layers import LayerQuantization
from evaluation.targets.torch_device.rounding import SHIFT, RoundedInput

GPU_ROWS = 17  # the fewest rows that the kernel of a GPU takes


class IntegerLayer(RoundedInput):
    """Integer weights, a scale for each output, a bias."""

    weight: Tensor
    bias: Tensor | None
    scales: Tensor

    def __init__(self, facts: LayerQuantization, bias: Tensor | None) -> None:
        super().__init__(facts)
        assert facts.weight_scales is not None
        scales = facts.weight_scales.double() * (1.0 if self.dynamic else self.scale)
        self.register_buffer("scales", scales.float())
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    def follow(self, factor: Tensor, shift: Tensor) -> None:
        """Multiply the outputs and add to them: a batch norm that came after."""
        self.scales = (self.scales.double() * factor).float()
        bias = 0 if self.bias is None else self.bias.double() * factor
        self.bias = (bias + shift).float()

    def scaled(self, step: Tensor | None) -> Tensor:
        """The scales of the outputs."""
        return self.scales if step is None else self.scales * step


class IntegerProduct(IntegerLayer):
    """Rows of integers times integer weights.

    With a `multiple`, sizes are padded to it and rows to more than 16, as GPUs want it.
    """

    sums: Tensor

    def __init__(
        self, weight: Tensor, facts: LayerQuantization, bias: Tensor | None, multiple: int
    ) -> None:
        super().__init__(facts, bias)
        self.outputs = len(weight)
        self.more, self.rows = -weight.shape[1] % multiple, GPU_ROWS if multiple > 1 else 0
        wide = F.pad(weight.to(torch.int8), (0, self.more, 0, -self.outputs % multiple))
        self.register_buffer("weight", wide.t().contiguous())
        self.register_buffer("sums", weight.long().sum(1).float())

    def product(self, rows: Tensor, zero: Tensor | int, step: Tensor | None) -> Tensor:
        """The outputs of rows of integers."""
        count = rows.shape[0]
        if self.rows:
            rows = F.pad(rows, (0, self.more, 0, self.rows))
        products = torch._int_mm(rows, self.weight)
        if self.rows:
            products = products[:count, : self.outputs]
        scales = self.scaled(step)
        extra = self.sums * (SHIFT - zero) * scales
        bias = extra if self.bias is None else extra + self.bias
        return torch.addcmul(bias, products.float(), scales)


class IntegerLinear(IntegerProduct):
    """A linear layer in integers."""

    def __init__(self, layer: nn.Linear, facts: LayerQuantization, multiple: int = 1) -> None:
        assert facts.weight_integers is not None
        super().__init__(facts.weight_integers, facts, layer.bias, multiple)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        integers, zero, step = self.rounded(x)
        rows = integers.reshape(-1, x.shape[-1])
        return self.product(rows, zero, step).view(*x.shape[:-1], self.outputs)


class IntegerConv2d(IntegerProduct):
    """A convolution of one group in integers."""

    def __init__(self, layer: nn.Conv2d, facts: LayerQuantization, multiple: int = 1) -> None:
        assert facts.weight_integers is not None
        rows = facts.weight_integers.permute(0, 2, 3, 1).reshape(layer.out_channels, -1)
        super().__init__(rows, facts, layer.bias, multiple)
        self.kernel, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.around = list(layer._reversed_padding_repeated_twice)
        self.mode = layer.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, channels last in memory."""
        if self.mode != "zeros":
            x = F.pad(x, self.around, self.mode)
        integers, zero, step = self.rounded(x)
        integers = integers.permute(0, 2, 3, 1).contiguous()
        if self.mode == "zeros" and any(self.around):
            integers = self._surrounded(integers, zero)
        windows = self._windows(integers)
        count, high, wide = windows.shape[:3]
        rows = windows.reshape(count * high * wide, -1)
        outputs = self.product(rows, zero, step).view(count, high, wide, self.outputs)
        return outputs.permute(0, 3, 1, 2)

    def _surrounded(self, integers: Tensor, zero: Tensor | int) -> Tensor:
        """With the integer that stands for 0 on all sides."""
        around = (0, 0, *self.around)
        if isinstance(zero, int):
            return F.pad(integers, around, value=zero - SHIFT)
        outside = F.pad(torch.zeros_like(integers[:1, :, :, :1]), around, value=1)
        nothing = (zero - SHIFT).to(torch.int8)
        return F.pad(integers, around) + outside * nothing

    def _windows(self, integers: Tensor) -> Tensor:
        """For each output position the numbers that it sees, channels last."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        if self.kernel == (1, 1):
            return integers[:, ::sh, ::sw]
        if self.dilation == (1, 1):
            return integers.unfold(1, kh, sh).unfold(2, kw, sw).permute(0, 1, 2, 4, 5, 3)
        high, wide = integers.shape[1] - dh * (kh - 1), integers.shape[2] - dw * (kw - 1)
        seen = [
            integers[:, i * dh : i * dh + high : sh, j * dw : j * dw + wide : sw]
            for i in range(kh)
            for j in range(kw)
        ]
        return torch.cat(seen, 3)


class GroupedConv2d(IntegerLayer):
    """A convolution in groups, of integers as float numbers."""

    def __init__(self, layer: nn.Conv2d, facts: LayerQuantization) -> None:
        super().__init__(facts, layer.bias)
        assert facts.weight_integers is not None
        self.register_buffer("weight", facts.weight_integers.to(torch.int8))
        self._layer = [layer]  # in a list, so that its weight is no parameter of this module

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        integers, zero, step = self.rounded(x)
        numbers = integers.float() + (SHIFT - zero)
        products = self._layer[0]._conv_forward(numbers, self.weight.float(), None)
        outputs: Tensor = products * self.scaled(step).view(-1, 1, 1)
        return outputs if self.bias is None else outputs + self.bias.view(-1, 1, 1)
