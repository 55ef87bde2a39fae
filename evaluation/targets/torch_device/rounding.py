"""The input of an integer layer, rounded as the simulation rounds it, in torch's own operators.

A level is an integer of the simulation less its zero point. A kernel is given levels plus an
offset, so that they fit the bytes that it takes: unsigned ones as they are, or signed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.quantization.input_quantizer import SMALLEST_STEP
from compressors.quantization.layers import LayerQuantization

MIDDLE = 128  # unsigned 8-bit integers less this are signed ones
HIGHEST = 255
HALF = HIGHEST / 2
TINY = torch.finfo(torch.float32).tiny  # keeps a step of 0, of nothing but zeros, a number


@dataclass(frozen=True)
class Product:
    """What a device's integer kernel takes: signed or unsigned inputs, sizes of a multiple."""

    unsigned: bool = False
    multiple: int = 1

    @property
    def shift(self) -> int:
        """What is taken off the simulation's integers."""
        return 0 if self.unsigned else MIDDLE

    @property
    def type(self) -> torch.dtype:
        """Of inputs."""
        return torch.uint8 if self.unsigned else torch.int8


@dataclass(frozen=True)
class Rounded:
    """Levels plus an offset, and the scale where it is the input's own."""

    numbers: Tensor
    offset: Tensor | int
    step: Tensor | None = None


class RoundedInput(nn.Module):
    """What every integer layer has: smoothing factors, the grid of its input."""

    smoothing: Tensor | None

    def __init__(self, facts: LayerQuantization, product: Product) -> None:
        super().__init__()
        self.kernel_takes = product
        self.dynamic, self.by_row = facts.dynamic, facts.by_row
        self.scale = facts.scale or 1.0
        zero = MIDDLE if facts.by_row else facts.zero_point or 0
        self.offset = zero - product.shift  # where an input does not bring its own zero point
        smoothing = facts.smoothing
        self.register_buffer("smoothing", None if smoothing is None else smoothing.float())

    def smoothed(self, x: Tensor) -> Tensor:
        """The input that is rounded."""
        return x if self.smoothing is None else x / self.smoothing

    def rounded(self, x: Tensor) -> Rounded:
        """A smoothed input's numbers for the kernel."""
        if not self.dynamic:
            units = (x / self.scale).round_()
            numbers = units.add_(self.offset) if self.offset else units
            return Rounded(self._bytes(numbers), self.offset)
        if self.by_row:
            step = (x.abs().amax(-1, keepdim=True) / HALF).clamp(min=SMALLEST_STEP)
            numbers = (x / step).round_().add_(self.offset)
            return Rounded(self._bytes(numbers), self.offset, step.reshape(-1, 1))
        low, high = torch.aminmax(x)
        low = low.clamp(max=0)
        step = ((high.clamp(min=0) - low) / HIGHEST).clamp(min=TINY)
        offset = -self.kernel_takes.shift - (low / step).round()
        return Rounded(self._bytes((x / step).round_() + offset), offset, step)

    def _bytes(self, numbers: Tensor) -> Tensor:
        lowest = -self.kernel_takes.shift
        return numbers.clamp_(lowest, lowest + HIGHEST).to(self.kernel_takes.type)
