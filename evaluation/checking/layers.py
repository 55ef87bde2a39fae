"""Which layer of a file departs: each one alone, and all that has gathered up to it.

Alone, the simulated layer is given what the file's layer reads, so that whatever went wrong before
it does not count: the number is about rounding error of floats for a layer that was lowered
faithfully. What lies between layers shows in `gathered` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from evaluation.checking.departure import NOWHERE, Departure, departure
from evaluation.checking.outputs import Inputs
from evaluation.checking.simulated import Call, as_single, calls, single_precision
from evaluation.checking.told import LayerTensors, TellsLayers


@dataclass(frozen=True)
class LayerDeparture:
    """One layer of a file, in the order of execution."""

    layer: str
    alone: Departure
    gathered: Departure  # in the whole model, from the inputs on


@torch.no_grad()
def layers(
    target: TellsLayers, compressed: CompressedModel, file: Path, args: Inputs
) -> tuple[LayerDeparture, ...]:
    """Every layer that both the file and the model tell; a layer that is read and never called is
    not told by a model."""
    names = [layer.name for layer in compressed.record.layers]
    seen = calls(single_precision(compressed.module), names, as_single(args))
    told = target.layer_tensors(file, as_single(args), describe(compressed.module))
    found = {tensors.layer: tensors for tensors in told}
    return tuple(
        _departure(call, found[name], name) for name, call in seen.items() if name in found
    )


def departing(found: Sequence[LayerDeparture], tolerance: float) -> tuple[LayerDeparture, ...]:
    """The layers that alone give other numbers than simulated: where lowering went wrong."""
    return tuple(each for each in found if each.alone.largest > tolerance)


def _departure(call: Call, told: LayerTensors, name: str) -> LayerDeparture:
    try:
        alone = departure([(_as_told(call, call.again(told.source), told), told.result)])
    except RuntimeError:  # torch's, of shapes that do not fit: the file's layer is another one
        alone = NOWHERE
    return LayerDeparture(
        name, alone, departure([(_as_told(call, call.output, told), told.result)])
    )


def _as_told(call: Call, output: Tensor, told: LayerTensors) -> Tensor:
    """A layer's output with the norm behind it and without the bias, as the file's node has it."""
    if told.with_norm and call.norm is not None:
        return call.norm(output)
    bias = getattr(call.module, "bias", None)
    return output if told.with_bias or bias is None else output - bias
