"""Quantisation, simulated: layers with rounded weights and inputs, and what they stand for.

`insert` wraps layers, `describe` tells a target the integers and scales, `strip` takes the
wrappers off again. Weights are rounded per output channel, the layer's input tensor as a whole;
see `quantizers` for the grids and `ranges` for where they end. Knows no runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from compressors.data import Batch
from compressors.modules import keep_calls, replace
from compressors.policies.steps import Quantize
from compressors.quantization.quantizers import InputQuantizer, WeightQuantizer
from compressors.quantization.ranges import Watched, fit_activations, fit_weights


@dataclass(frozen=True)
class LayerQuantization:
    """What a target needs to know of one quantised layer; None where left in float.

    The simulated weight is integers * scales (one scale an output channel); the simulated input
    is (clamp(round(x / scale) + zero_point, 0, 2^bits - 1) - zero_point) * scale.
    """

    weight_bits: int | None
    weight_scales: Tensor | None
    weight_integers: Tensor | None  # int8, shaped as the weight
    activation_bits: int | None
    scale: float | None
    zero_point: int | None


class QuantizedLayer(nn.Module):
    """A Linear or Conv2d whose weight and input pass through fake quantisers."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, settings: Quantize) -> None:
        super().__init__()
        weight = layer.weight
        self.layer = layer
        self.ranges = settings.ranges
        self.weight_quantizer: WeightQuantizer | None = None
        self.input_quantizer: InputQuantizer | None = None
        if settings.weights is not None:
            self.weight_quantizer = WeightQuantizer(settings.weights, weight)
            fit_weights(self.weight_quantizer, weight, settings.ranges)
        if settings.activations is not None:
            self.input_quantizer = InputQuantizer(settings.activations, weight.device)
        keep_calls(self)

    @property
    def weight(self) -> Tensor:
        """The layer's weight in float, for models that read their layers' attributes."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output from its rounded weight and rounded input."""
        layer, weight = self.layer, self.layer.weight
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        if self.weight_quantizer is not None:
            weight = self.weight_quantizer(weight)
        if isinstance(layer, nn.Conv2d):
            output: Tensor = layer._conv_forward(x, weight, layer.bias)
            return output
        return F.linear(x, weight, layer.bias)


def insert(model: nn.Module, settings: Mapping[str, Quantize]) -> None:
    """Wrap the named layers, in place; activations' ranges are not yet known: `calibrate` next."""
    for name, entry in settings.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        if entry.weights is not None or entry.activations is not None:
            replace(model, name, QuantizedLayer(layer, entry))


def calibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Find the ranges of every layer's input on these batches, in place."""
    watched = [
        Watched(wrapper.input_quantizer, wrapper.ranges)
        for wrapper in _wrappers(model).values()
        if wrapper.input_quantizer is not None
    ]
    if watched:
        fit_activations(model, watched, batches)


def describe(model: nn.Module) -> dict[str, LayerQuantization]:
    """Every quantised layer by module path: bits, scales, integers, zero point."""
    return {name: _describe(wrapper) for name, wrapper in _wrappers(model).items()}


def strip(model: nn.Module) -> None:
    """Put the plain layers, with their weights in float, back in place of the wrappers."""
    for name, wrapper in _wrappers(model).items():
        replace(model, name, wrapper.layer)


def _wrappers(model: nn.Module) -> dict[str, QuantizedLayer]:
    modules = model.named_modules()
    return {name: module for name, module in modules if isinstance(module, QuantizedLayer)}


def _describe(wrapper: QuantizedLayer) -> LayerQuantization:
    weights, inputs, weight = (
        wrapper.weight_quantizer,
        wrapper.input_quantizer,
        wrapper.layer.weight,
    )
    return LayerQuantization(
        weight_bits=weights.bits if weights else None,
        weight_scales=weights.scales(weight).clone() if weights else None,
        weight_integers=weights.integers(weight) if weights else None,
        activation_bits=inputs.bits if inputs else None,
        scale=float(inputs.scale) if inputs else None,
        zero_point=int(inputs.zero_point) if inputs else None,
    )
