"""A layer whose weight and input pass through quantisers, called as the layer is called.

Knows every kind of layer that can be quantised, and nothing of how the quantisers were fitted.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from compressors.modules import keep_calls
from compressors.policies.steps import Quantize
from compressors.quantization.input_quantizer import InputQuantizer
from compressors.quantization.weight_quantizer import WeightQuantizer, computable

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
Quantizable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding


class QuantizedLayer(nn.Module):
    """The layer, its quantisers, and what its inputs are divided by first."""

    smoothing: Tensor | None

    def __init__(
        self,
        layer: Quantizable,
        settings: Quantize,
        weights: WeightQuantizer | None,
        inputs: InputQuantizer | None,
        smoothing: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.settings = settings
        self.weight_quantizer = weights
        self.input_quantizer = inputs
        self.register_buffer("smoothing", smoothing)
        keep_calls(self)

    @property
    def weight(self) -> Tensor:
        """The layer's weight, rounded, for models that read it without calling the layer."""
        if self.weight_quantizer is None:
            return self.layer.weight
        rounded = self.weight_quantizer(self.smoothed_weight())
        if self.smoothing is not None:
            rounded = rounded / self.smoothing.to(rounded.dtype)
        return self._as_held(rounded)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return getattr(self.layer, "bias", None)

    def smoothed_weight(self) -> Tensor:
        """The weight as the quantiser sees it; smoothed, in single precision at least."""
        if self.smoothing is None:
            return self.layer.weight
        weight = computable(self.layer.weight)
        return weight * self.smoothing.to(weight.dtype)

    def rounded_weight(self) -> Tensor:
        """The weight that the layer computes with."""
        weight = self.smoothed_weight()
        if self.weight_quantizer is not None:
            weight = self.weight_quantizer(weight)
        return self._as_held(weight)

    def __getattr__(self, name: str) -> Any:
        """A plain attribute of the layer, such as `in_features`."""
        modules = self.__dict__.get("_modules", {})
        facts = vars(modules["layer"]) if "layer" in modules else {}
        if name in facts and not name.startswith("_"):
            return facts[name]
        return super().__getattr__(name)

    def _as_held(self, weight: Tensor) -> Tensor:
        return weight.to(self.layer.weight.dtype)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output from its rounded weight and rounded input."""
        if self.smoothing is not None:
            x = x / self.smoothing.to(x.dtype)
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        return _computed(self.layer, x, self.rounded_weight(), *args, **kwargs)


def _computed(layer: Quantizable, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What the layer would give with another weight."""
    if isinstance(layer, nn.ConvTranspose2d):
        return _transposed(layer, x, weight, *args, **kwargs)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        output: Tensor = layer._conv_forward(x, weight, layer.bias)
        return output
    if isinstance(layer, nn.Embedding):
        return F.embedding(
            x,
            weight,
            layer.padding_idx,
            layer.max_norm,
            layer.norm_type,
            layer.scale_grad_by_freq,
            sparse=False,  # a rounded table's gradient goes through all of it
        )
    return F.linear(x, weight, layer.bias)


def _transposed(
    layer: nn.ConvTranspose2d, x: Tensor, weight: Tensor, output_size: list[int] | None = None
) -> Tensor:
    stride, padding, kernel, dilation = (
        [int(value) for value in values]
        for values in (layer.stride, layer.padding, layer.kernel_size, layer.dilation)
    )
    more = layer._output_padding(x, output_size, stride, padding, kernel, 2, dilation)
    return F.conv_transpose2d(x, weight, layer.bias, stride, padding, more, layer.groups, dilation)
