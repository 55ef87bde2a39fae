"""Quantisation of a model's layers, simulated: wrapped, trained, calibrated, described, unwrapped.

`insert` wraps layers and fits their grids; `set_scales` and `freeze_scales` stand around training
and `recalibrate` goes between; `describe` tells a target the codes and scales; `strip` takes the
wrappers off again. Knows no runtime.
"""

from __future__ import annotations

from torch import nn

from compressors.modules import replace
from compressors.policies.policy import Scales
from compressors.quantization.description import LayerQuantization, StoredWeight, describe
from compressors.quantization.insertion import insert
from compressors.quantization.recalibration import recalibrate
from compressors.quantization.wrapper import QuantizedLayer

__all__ = [
    "LayerQuantization",
    "QuantizedLayer",
    "StoredWeight",
    "describe",
    "freeze_scales",
    "insert",
    "recalibrate",
    "set_scales",
    "strip",
]


def set_scales(model: nn.Module, mode: Scales) -> tuple[str, ...]:
    """How grids go along with the training that follows, and notes on those that do not.

    Learned scales become parameters.
    """
    notes = []
    for name, wrapper in _wrappers(model).items():
        if wrapper.weight_quantizer is not None:
            wrapper.weight_quantizer.set_mode(mode, wrapper.smoothed_weight())
            if mode == "learned" and wrapper.weight_quantizer.log_step is None:
                function = wrapper.settings.function
                notes.append(f"{name}: weights of function {function} keep their scales, unlearned")
        if wrapper.input_quantizer is not None:
            wrapper.input_quantizer.set_mode(mode)
    return tuple(notes)


def freeze_scales(model: nn.Module) -> None:
    """Fix every grid as it is; none is a parameter any more."""
    for wrapper in _wrappers(model).values():
        if wrapper.weight_quantizer is not None:
            wrapper.weight_quantizer.freeze(wrapper.smoothed_weight())
        if wrapper.input_quantizer is not None:
            wrapper.input_quantizer.freeze()


def strip(model: nn.Module) -> None:
    """Put the plain layers, with their weights in float, back in place of the wrappers."""
    for name, wrapper in _wrappers(model).items():
        replace(model, name, wrapper.layer)


def _wrappers(model: nn.Module) -> dict[str, QuantizedLayer]:
    modules = model.named_modules()
    return {name: module for name, module in modules if isinstance(module, QuantizedLayer)}
