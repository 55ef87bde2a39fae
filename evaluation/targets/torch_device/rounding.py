"""The input of an integer layer, rounded as the simulation rounds it, in torch's own operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressors.quantization.layers import LayerQuantization

SHIFT = 128  # unsigned 8-bit integers less this are signed ones
Rounded = tuple[Tensor, Tensor | int, Tensor | None]


class RoundedInput(nn.Module):
    """What every integer layer has: smoothing factors, the grid of its input."""

    smoothing: Tensor | None

    def __init__(self, facts: LayerQuantization) -> None:
        super().__init__()
        self.dynamic = facts.dynamic
        self.scale, self.zero = facts.scale or 1.0, facts.zero_point or 0
        smoothing = facts.smoothing
        self.register_buffer("smoothing", None if smoothing is None else smoothing.float())

    def rounded(self, x: Tensor) -> Rounded:
        """The integers less SHIFT, the zero point, and the scale where it is the input's own."""
        if self.smoothing is not None:
            x = x / self.smoothing
        if not self.dynamic:
            return _integers(x / self.scale, self.zero), self.zero, None
        low, high = torch.aminmax(x)
        low, high = low.clamp(max=0), high.clamp(min=0)
        step = (high - low) / 255
        step = torch.where(step == 0, 1.0, step)  # nothing but zeros
        zero = (-low / step).round().clamp(0, 255)
        return _integers(x / step, zero), zero, step


def _integers(units: Tensor, zero: Tensor | int) -> Tensor:
    rounded = units.round_() + (zero - SHIFT) if isinstance(zero, Tensor) else units.round_()
    if isinstance(zero, int):
        rounded = rounded.add_(zero - SHIFT)
    return rounded.clamp_(-SHIFT, SHIFT - 1).to(torch.int8)
