"""Finds a live model's structure: layers, channel groups, removable blocks, attentions.

Layers are the modules with a weight that a step can change and that run, in the order in which
they do. The rest is tried on copies before it is listed: see `channel_groups`, `blocks` and
`head_finding`. Torch's own attentions are found where they are open (see `attention`). Knows
nothing of policies.
"""

from __future__ import annotations

from collections import Counter

from torch import Tensor, nn

from compressors.modules import (
    Layered,
    as_layer,
    channels,
    groups,
    kernel,
    layer_kind,
    own_parameters,
    parameter_count,
    tied_parameters,
)
from compressors.structures.blocks import find_blocks
from compressors.structures.channel_groups import channel_groups
from compressors.structures.head_finding import find_attentions
from compressors.structures.structure import Layer, Structure
from compressors.structures.tracing import Call, Trace, tensors_in, trace


def inspect_model(model: nn.Module, example_args: tuple[Tensor, ...]) -> Structure:
    """What of the model can be compressed; the model itself is left as it is.

    The example is one sample, so that what is counted is counted for one.
    """
    seen = trace(model, example_args)
    layers = _layers(seen)
    names = [layer.name for layer in layers]
    once = _once_on_their_own(names, model, seen)
    attentions = find_attentions(model, example_args, seen, once)
    heads = {name for attention in attentions for name in attention.packed()}
    return Structure(
        layers=layers,
        groups=channel_groups(model, example_args, [name for name in once if name not in heads]),
        blocks=find_blocks(model, example_args, seen, names),
        attentions=attentions,
    )


def _layers(seen: Trace) -> tuple[Layer, ...]:
    calls: dict[str, list[Call]] = {}
    for call in seen.calls:
        if layer_kind(call.module) is not None:
            calls.setdefault(call.name, []).append(call)
    return tuple(_layer(name, runs) for name, runs in calls.items())


def _layer(name: str, runs: list[Call]) -> Layer:
    module = as_layer(runs[0].module)
    kind = layer_kind(module)
    assert kind is not None
    inputs, outputs = channels(module)
    return Layer(
        name=name,
        kind=kind,
        in_channels=inputs,
        out_channels=outputs,
        kernel=kernel(module),
        groups=groups(module),
        parameters=parameter_count(module),
        macs=sum(_macs(module, run) for run in runs),
    )


def _macs(module: Layered, run: Call) -> int:
    """Multiply-accumulates for one sample; reading a table takes none.

    Every output value takes one filter's worth; of a transposed convolution, every input value.
    """
    if isinstance(module, nn.Embedding):
        return 0
    transposed = isinstance(module, nn.ConvTranspose2d)
    values = tensors_in((run.args, run.kwargs))[0] if transposed else run.output
    count: int = values.numel()
    return count * module.weight[0].numel()


def _once_on_their_own(names: list[str], model: nn.Module, seen: Trace) -> list[str]:
    """The layers that run a single time and share no parameter with another module."""
    tied = tied_parameters(model)
    runs = Counter(call.module for call in seen.calls)
    layers = {name: model.get_submodule(name) for name in names}
    return [
        n for n, layer in layers.items() if runs[layer] == 1 and not own_parameters(layer) & tied
    ]
