"""Quantised layers put in the place of plain ones, their grids fitted or remembered.

Everything that depends on a layer's weight, its inputs' statistics and the settings alone is kept
by content, so that a model that differs in one layer has one layer fitted anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Statistics
from compressors.policies.steps import Quantize
from compressors.quantization.bias_correction import correct_bias
from compressors.quantization.fitting import WeightFit, fitted_range, fitted_weight
from compressors.quantization.float_inputs import FloatInputQuantizer
from compressors.quantization.input_quantizer import InputQuantizer
from compressors.quantization.observations import Observations, observe
from compressors.quantization.smoothing import smoothing_factors
from compressors.quantization.weight_quantizer import WeightQuantizer
from compressors.quantization.wrapper import Quantizable, QuantizedLayer

NO_MASKS: Mapping[str, Tensor] = {}


def insert(
    model: nn.Module,
    settings: Mapping[str, Quantize],
    statistics: Statistics,
    cache: ContentCache,
    masks: Mapping[str, Tensor] = NO_MASKS,
) -> tuple[str, ...]:
    """Wrap the named layers, in place; what was done otherwise than asked, as notes.

    Where a mask (shaped as the weight) is zero, the weight is zero and stays so. Statistics are
    looked up by the layers' names.
    """
    asked = {
        name: entry
        for name, entry in settings.items()
        if entry.weights is not None or entry.activations is not None
    }
    layers = {name: _quantizable(model, name) for name in asked}
    factors = _smoothing(asked, layers, statistics)
    seen = observe(asked, factors, statistics)
    fits = {
        name: fitted_weight(
            name, layers[name], entry, masks.get(name), factors.get(name), seen, cache
        )
        for name, entry in asked.items()
        if entry.weights is not None
    }
    notes = tuple(_untied(model, asked, layers, fits))
    wrappers: dict[nn.Module, QuantizedLayer] = {}
    for name, entry in asked.items():
        layer, fit = layers[name], fits.get(name)
        inputs = _inputs(name, entry, layer.weight.device, seen, cache)
        weights = None if fit is None else _weights(layer, entry, fit, masks.get(name))
        wrapper = QuantizedLayer(layer, entry, weights, inputs, factors.get(name))
        notes += tuple(_settle(name, wrapper, fit, seen))
        wrappers[layer] = wrapper
    _replace(model, wrappers)
    return notes


def _quantizable(model: nn.Module, name: str) -> Quantizable:
    layer = model.get_submodule(name)
    assert isinstance(layer, Quantizable)
    return layer


@torch.no_grad()
def _smoothing(
    asked: Mapping[str, Quantize], layers: Mapping[str, Quantizable], statistics: Statistics
) -> dict[str, Tensor]:
    names = [name for name, entry in asked.items() if entry.smooth]
    inputs = statistics.inputs(names) if names else {}
    factors = {}
    for name in names:
        weight = layers[name].weight
        largest = torch.maximum(-inputs[name].low, inputs[name].high)
        found = smoothing_factors(weight, largest.to(weight.device), asked[name].smooth)
        factors[name] = found.to(weight.dtype).to(found.dtype)  # weights and inputs by the same
    return factors


def _inputs(
    name: str, entry: Quantize, device: torch.device, seen: Observations, cache: ContentCache
) -> InputQuantizer | None:
    if entry.activations is None:
        return None
    quantizer = _input_quantizer(entry.activations, entry, device)
    if not entry.dynamic:
        quantizer.set_range(*fitted_range(name, entry, seen, cache))
    return quantizer


def _input_quantizer(bits: int, entry: Quantize, device: torch.device) -> InputQuantizer:
    if entry.inputs != "affine":
        return FloatInputQuantizer(entry.inputs, device)
    return InputQuantizer(
        bits, device, dynamic=entry.dynamic, signed=entry.signed, by_row=entry.by_row
    )


def _weights(
    layer: Quantizable, entry: Quantize, fit: WeightFit, mask: Tensor | None
) -> WeightQuantizer:
    device = layer.weight.device
    state = {part: tensor.to(device, copy=True) for part, tensor in fit.state.items()}
    kept = None if mask is None else (mask != 0).to(device)
    return WeightQuantizer(layer, entry, state, kept)


@torch.no_grad()
def _settle(
    name: str, wrapper: QuantizedLayer, fit: WeightFit | None, seen: Observations
) -> Iterator[str]:
    """Put in the weights that were rounded otherwise than to the nearest, and correct the bias."""
    layer = wrapper.layer
    if fit is None:
        return
    original = layer.weight
    correct = wrapper.settings.bias_correction
    if fit.weight is not None:
        original = layer.weight.clone() if correct else original
        layer.weight.copy_(fit.weight)
    if correct:
        note = correct_bias(layer, original, wrapper.weight, seen.inputs[name].mean)
        if note is not None:
            yield f"{name}: {note}"


def _untied(
    model: nn.Module,
    asked: Mapping[str, Quantize],
    layers: Mapping[str, Quantizable],
    fits: Mapping[str, WeightFit],
) -> Iterator[str]:
    """Layers whose weight or bias is changed for their own inputs no longer share it."""
    rounded = [(name, "weight") for name, fit in fits.items() if fit.weight is not None]
    corrected = [(name, "bias") for name in fits if asked[name].bias_correction]
    if not rounded and not corrected:
        return
    holders: dict[Tensor, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[parameter] = holders.get(parameter, 0) + 1
    for name, part in (*rounded, *corrected):
        shared = layers[name]._parameters.get(part)
        if shared is not None and holders[shared] > 1:
            holders[shared] -= 1
            own = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
            setattr(layers[name], part, own)
            done = "rounded" if part == "weight" else "corrected"
            yield f"{name}: its {part}, {done} for its own inputs, is no longer shared"


def _replace(model: nn.Module, wrappers: Mapping[nn.Module, QuantizedLayer]) -> None:
    """Each wrapper in its layer's place and mode, at every path that leads there."""
    for parent in list(model.modules()):
        if isinstance(parent, QuantizedLayer):
            continue
        for key, child in parent._modules.items():
            wrapper = wrappers.get(child) if child is not None else None
            if wrapper is not None:
                wrapper.train(child.training if child is not None else False)
                parent._modules[key] = wrapper
