"""What layers of small numbers do to their products: a scale for each output, and a bias."""

from __future__ import annotations

from torch import Tensor, nn


class ScaledOutput(nn.Module):
    """Scales and a bias, which a batch norm may change."""

    scales: Tensor
    bias: Tensor | None

    def scale_by(self, scales: Tensor, bias: Tensor | None) -> None:
        """Keep them, in single precision."""
        self.register_buffer("scales", scales.float())
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    def follow(self, factor: Tensor, shift: Tensor) -> None:
        """Multiply the outputs and add to them: a batch norm that came after."""
        self.scales = (self.scales.double() * factor).float()
        bias = 0 if self.bias is None else self.bias.double() * factor
        self.bias = (bias + shift).float()
