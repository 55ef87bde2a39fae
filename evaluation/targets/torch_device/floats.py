"""Linear layers that compute in 8-bit floats, by `torch._scaled_mm`.

A layer rounds its input to the simulation's own floats and multiplies them by the simulation's own
float weights; sums are single precision. Scales are taken out after the product, one an output, as
the kernel for a scale a row rounds its answers to half. Sizes are padded to what a GPU's kernel
takes, on a CPU too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.quantization.layers import LayerQuantization
from evaluation.targets.torch_device.scaled import ScaledOutput
from evaluation.targets.torch_device.stored import FLOATS, levels

MULTIPLE = 16  # of inputs and outputs


class FloatLinear(ScaledOutput):
    """A linear layer in 8-bit floats."""

    weight: Tensor
    one: Tensor
    smoothing: Tensor | None

    def __init__(self, layer: nn.Linear, facts: LayerQuantization) -> None:
        super().__init__()
        stored = facts.stored
        assert stored is not None
        assert facts.scale is not None
        self.kind = FLOATS[facts.inputs]
        self.largest = torch.finfo(self.kind).max
        self.scale, self.count = facts.scale, len(stored.codes)
        self.more = -stored.codes.shape[1] % MULTIPLE
        wide = F.pad(levels(stored), (0, self.more, 0, -self.count % MULTIPLE))
        self.register_buffer("weight", wide.to(self.kind))
        self.scale_by(stored.scales.double().flatten().expand(self.count) * self.scale, layer.bias)
        smoothing = facts.smoothing
        self.register_buffer("smoothing", None if smoothing is None else smoothing.float())
        self.register_buffer("one", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        smooth = x if self.smoothing is None else x / self.smoothing
        units = (smooth / self.scale).clamp(-self.largest, self.largest)
        rows = F.pad(units.reshape(-1, x.shape[-1]), (0, self.more)).to(self.kind).contiguous()
        products = torch._scaled_mm(
            rows, self.weight.t(), scale_a=self.one, scale_b=self.one, out_dtype=torch.float32
        )[:, : self.count]
        if self.bias is None:
            outputs = products * self.scales
        else:
            outputs = torch.addcmul(self.bias, products, self.scales)
        return outputs.reshape(*x.shape[:-1], self.count)
