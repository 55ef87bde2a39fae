"""A layer's input in 8-bit floats: one scale a tensor, no zero point, saturated.

The scale takes the end of the range to the largest float; what lies beyond becomes that. Ranges
come, follow and are learned as those of integers. Knows nothing of how a range was chosen.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compressors.quantization.float_formats import Float8
from compressors.quantization.input_quantizer import SMALLEST_SCALE, InputQuantizer
from compressors.quantization.number_format import Grid
from compressors.quantization.straight_through import round_to_levels


class FloatInputQuantizer(InputQuantizer):
    """Floats of 8 bits times a scale."""

    def __init__(self, kind: Literal["e4m3"], device: torch.device) -> None:
        number_format = Float8(kind)
        super().__init__(number_format.bits, device)
        self.format = number_format

    def _fix(self, low: float, high: float) -> None:
        self.scale.fill_(max(-low, high) / self.format.reach).clamp_(min=SMALLEST_SCALE)

    def _rounded(self, x: Tensor) -> Tensor:
        scale = self._in_training(x, self.format.reach)
        grid = Grid(scale)
        low, high = self.format.bounds(grid)
        return round_to_levels(x, scale, lambda u: self.format.nearest(u, grid), low, high)
