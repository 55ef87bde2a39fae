"""A layer's input on its grid: the tensor as a whole, unsigned, with a zero point; 0.0 is exact.

A signed grid is one whose zero point is fixed in the middle: -128 to 127 of 8 bits.

The range is fixed beforehand, learned in training, or (`dynamic`) that of every input itself, as
ONNX's DynamicQuantizeLinear finds it, or that of every row of it (`by_row`), around 0, as torchao's
dynamic 8-bit layers find it. Knows nothing of how a fixed range was chosen.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from compressors.errors import UserError
from compressors.policies.policy import Scales
from compressors.quantization.straight_through import (
    learned_scale,
    round_to_grid,
    round_to_levels,
)

SMALLEST_SCALE = 1e-8
SMALLEST_STEP = torch.finfo(torch.float32).eps  # of a row of zeros, or nearly so


class Observer(Protocol):
    """Sees inputs."""

    def see(self, x: Tensor) -> None:
        """One call's input."""
        ...


class InputQuantizer(nn.Module):
    """Integers from 0 to 2^bits - 1.

    While `observer` is set, inputs pass unchanged and the observer sees them.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        bits: int,
        device: torch.device,
        *,
        dynamic: bool = False,
        signed: bool = False,
        by_row: bool = False,
    ) -> None:
        super().__init__()
        self.bits = bits
        self.highest: int = 2**bits - 1
        self.dynamic = dynamic
        self.signed = signed
        self.by_row = by_row
        self.mode: Scales = "fixed"
        self.log_step: nn.Parameter | None = None
        self.observer: Observer | None = None
        self.register_buffer("scale", torch.ones((), dtype=torch.float32, device=device))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32, device=device))

    def set_range(self, low: float, high: float) -> None:
        """Fix the grid; the range is widened to hold zero."""
        if not math.isfinite(low) or not math.isfinite(high):
            raise UserError(
                "A layer's inputs on the calibration split are not all finite numbers, so that"
                " its activations have no range; valid: float activations, or a model that"
                " gives finite numbers there."
            )
        self._fix(min(low, 0.0), max(high, 0.0))

    def _fix(self, low: float, high: float) -> None:
        if self.signed:
            middle = 2 ** (self.bits - 1)
            self.scale.fill_(max(-low, high) / (middle - 1)).clamp_(min=SMALLEST_SCALE)
            self.zero_point.fill_(middle)
            return
        self.scale.fill_(max((high - low) / self.highest, SMALLEST_SCALE))
        zero_point = round(-low / float(self.scale))
        self.zero_point.fill_(min(max(zero_point, 0), self.highest))

    def set_mode(self, mode: Scales) -> None:
        """How the grid goes along with training from here on."""
        self.freeze()
        self.mode = mode
        if mode == "learned" and not self.dynamic:
            self.log_step = nn.Parameter(torch.zeros_like(self.scale))

    @torch.no_grad()
    def freeze(self) -> None:
        """Fix the grid as it is now."""
        self.scale = self.current_scale()
        self.log_step, self.mode = None, "fixed"

    @torch.no_grad()
    def current_scale(self) -> Tensor:
        """The scale at this moment."""
        return self.scale if self.log_step is None else self.scale * self.log_step.exp()

    def forward(self, x: Tensor) -> Tensor:
        """The activations as they will be after quantisation."""
        if self.observer is not None:
            self.observer.see(x.detach())
            return x
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return self._rounded(wide).to(x.dtype)

    def _rounded(self, x: Tensor) -> Tensor:
        if self.dynamic:
            return self._row_by_row(x) if self.by_row else self._by_itself(x)
        zero = int(self.zero_point)
        if self.log_step is None:
            return round_to_grid(x, float(self.scale), -zero, self.highest - zero)
        scale, lowest, highest = self._in_training(x, self.highest), -zero, self.highest - zero
        return round_to_levels(
            x, scale, lambda u: u.round().clamp_(lowest, highest), lowest - 0.5, highest + 0.5
        )

    def _in_training(self, x: Tensor, reach: float) -> Tensor:
        """The scale, with its gradient where it is learned."""
        if self.log_step is None:
            return self.scale
        elements = x[0].numel() if x.dim() > 1 and len(x) else x.numel()
        return learned_scale(self.log_step, self.scale, elements, reach)

    def _by_itself(self, x: Tensor) -> Tensor:
        """By the range of this input, in single precision as a runtime does it."""
        if x.numel() == 0:
            return x
        low, high = (end.float() for end in torch.aminmax(x.detach()))
        low, high = low.clamp(max=0), high.clamp(min=0)
        step = (high - low) / self.highest
        zero = (-low / step).round().clamp(0, self.highest)
        scale, shift = torch.stack([step, zero]).tolist()
        if scale == 0:  # nothing but zeros, or too near to it for a scale
            return x * 0
        if not math.isfinite(scale):
            return x * math.nan
        return round_to_grid(x, scale, -int(shift), self.highest - int(shift))

    def _row_by_row(self, x: Tensor) -> Tensor:
        """By the largest number of each row, in single precision."""
        if x.numel() == 0:
            return x
        largest = x.detach().abs().amax(-1, keepdim=True).float()
        step = (largest / (self.highest / 2)).clamp(min=SMALLEST_STEP)
        middle = 2 ** (self.bits - 1)
        return round_to_grid(x, step, -middle, self.highest - middle)
