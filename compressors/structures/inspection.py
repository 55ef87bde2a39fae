"""Finds a live model's structure: its layers, its channel groups, its removable blocks.

Layers are the Linear and Conv2d modules that run, in the order in which they do. Blocks are the
innermost modules that run once, take one tensor, return one of the same shape and add their own
input within: without its layers such a block is close to the identity. Groups come from
Torch-Pruning's dependency graph; see `channel_groups`. Knows nothing of policies.
"""

from __future__ import annotations

from torch import Tensor, nn

from compressors.modules import channels, layer_kind, parameter_count
from compressors.structures.channel_groups import channel_groups
from compressors.structures.structure import Block, Layer, Structure
from compressors.structures.tracing import Call, Trace, tensors_in, trace


def inspect_model(model: nn.Module, example_args: tuple[Tensor, ...]) -> Structure:
    """What of the model can be compressed; the model itself is left as it is.

    The example is one sample, so that what is counted is counted for one.
    """
    seen = trace(model, example_args)
    layers = _layers(seen)
    once = [layer for layer in layers if _runs_once_on_its_own(layer.name, model, seen)]
    return Structure(
        layers=layers,
        groups=channel_groups(model, example_args, [layer.name for layer in once]),
        blocks=_blocks(seen, {layer.name for layer in layers}),
    )


def _layers(seen: Trace) -> tuple[Layer, ...]:
    calls: dict[str, list[Call]] = {}
    for call in seen.calls:
        if layer_kind(call.module) is not None:
            calls.setdefault(call.name, []).append(call)
    return tuple(_layer(name, runs) for name, runs in calls.items())


def _layer(name: str, runs: list[Call]) -> Layer:
    module = runs[0].module
    assert isinstance(module, (nn.Conv2d, nn.Linear))
    inputs, outputs = channels(module)
    kernel: tuple[int, ...] = ()
    groups = 1
    if isinstance(module, nn.Conv2d):
        kernel, groups = (module.kernel_size[0], module.kernel_size[1]), module.groups
    return Layer(
        name=name,
        kind="conv2d" if isinstance(module, nn.Conv2d) else "linear",
        in_channels=inputs,
        out_channels=outputs,
        kernel=kernel,
        groups=groups,
        parameters=parameter_count(module),
        macs=sum(_macs(module, run) for run in runs),
    )


def _macs(module: nn.Conv2d | nn.Linear, run: Call) -> int:
    """Multiply-accumulates for one sample: every output value takes one filter's worth."""
    outputs: int = run.output.numel()
    return outputs * module.weight[0].numel()


def _runs_once_on_its_own(name: str, model: nn.Module, seen: Trace) -> bool:
    """Whether no other module has the layer's weight, and it runs a single time."""
    module = model.get_submodule(name)
    owners = [
        owner
        for owner in model.modules()
        if any(parameter is module.weight for parameter in owner.parameters(recurse=False))
    ]
    return len(owners) == 1 and len(seen.calls_of(module)) == 1


def _blocks(seen: Trace, layers: set[str]) -> tuple[Block, ...]:
    blocks = []
    for call in seen.calls:
        inside = tuple(name for name in sorted(layers) if name.startswith(f"{call.name}."))
        if call.name and inside and _keeps_shape(call) and len(seen.calls_of(call.module)) == 1:
            order = [c.name for c in seen.calls if c.name in inside]
            blocks.append(Block(call.name, tuple(dict.fromkeys(order))))
    outer = {
        block.name
        for block in blocks
        for other in blocks
        if other.name.startswith(f"{block.name}.")
    }
    return tuple(block for block in blocks if block.name not in outer)


def _keeps_shape(call: Call) -> bool:
    given, output = tensors_in((call.args, call.kwargs)), call.output
    return (
        call.residual
        and len(given) == len(call.args) == 1
        and isinstance(output, Tensor)
        and output.shape == given[0].shape
        and output.dtype == given[0].dtype
    )
