"""What a compressed model computes for one sample, layer by layer: the common coin of costs.

Knows nothing of machines: tables, analytic accelerators and energy models price it. Layers are
what is counted; what lies between them (activations, norms, poolings, the products of two
activations within attention) is not.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from compressors.modules import device_of, eval_mode, moved
from compressors.policies.steps import FLOAT_INPUTS
from compressors.quantization.layers import QuantizedLayer
from compressors.record import CompressedModel, LayerKind
from compressors.structures.attention import open_attentions

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
Kind = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding
_NAMES = dict(zip(KINDS, get_args(LayerKind), strict=True))


@dataclass(frozen=True)
class Work:
    """One layer's share, for one sample; a layer that runs twice has two.

    `shape` is the weight's shape as torch has it, then stride, padding, dilation and groups of a
    convolution, then the sizes of its input behind the channels; of a linear layer and of an
    embedding, how many rows or indices it is given: "10x64 @1".
    """

    layer: str  # module path in the compressed model
    kind: LayerKind
    shape: str  # what else its speed depends on, canonical: "64x64x3x3 s1 p1 d1 g1 @8x8"
    macs: int
    weights: int  # numbers, zeros among them
    inputs: int  # numbers read
    outputs: int  # numbers written
    weight_bits: int | None = None  # None: float
    activation_bits: int | None = None
    zeros: float = 0.0  # share of the weights
    float_inputs: bool = False  # small floats, not integers, so that sums are floats too


@dataclass(frozen=True)
class Call:
    """One run of one layer on one sample."""

    name: str
    layer: Kind
    input: torch.Size
    output: torch.Size

    @property
    def kind(self) -> LayerKind:
        """What kind of layer it is, subclasses among them."""
        return next(name for base, name in _NAMES.items() if isinstance(self.layer, base))

    @property
    def macs(self) -> int:
        """Multiply-accumulates; an embedding multiplies nothing."""
        if isinstance(self.layer, nn.Embedding):
            return 0
        # Each weight of a row meets every output, but in a transposed convolution every input.
        met = self.input if isinstance(self.layer, nn.ConvTranspose2d) else self.output
        return met.numel() * self.layer.weight[0].numel()


def calls(module: nn.Module, example: tuple[Tensor, ...]) -> list[Call]:
    """Every run of a layer, quantised or not, for one sample, in order."""
    module = opened(module)
    found: list[Call] = []

    def hook(name: str, layer: Kind) -> Any:
        def seen(_: nn.Module, args: tuple[Tensor, ...], kwargs: Any, output: Tensor) -> None:
            source = args[0] if args else next(iter(kwargs.values()))
            found.append(Call(name, layer, source.shape, output.shape))

        return seen

    handles = [
        runs.register_forward_hook(hook(name, layer), with_kwargs=True)
        for name, runs, layer in _layers(module)
    ]
    try:
        run_once(module, example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def opened(module: nn.Module) -> nn.Module:
    """The module; a copy where it has attentions that compute without calling their layers."""
    if not any(isinstance(part, nn.MultiheadAttention) for part in module.modules()):
        return module
    copy = deepcopy(module)
    open_attentions(copy)
    return copy


def run_once(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """The model's answer to one sample, in eval mode; its mode is left as it was."""
    with eval_mode(module), torch.no_grad():
        return module(*(tensor[:1] for tensor in moved(example, device_of(module))))


def work_of(compressed: CompressedModel) -> tuple[Work, ...]:
    """The work of every run of a layer for one sample; bits and zeros are the record's."""
    records = {layer.name: layer for layer in compressed.record.layers}
    found = []
    for call in calls(compressed.module, compressed.example):
        record = records.get(call.name)
        work = Work(
            layer=call.name,
            kind=call.kind,
            shape=shape_of(call),
            macs=call.macs,
            weights=call.layer.weight.numel(),
            inputs=call.input.numel(),
            outputs=call.output.numel(),
            weight_bits=record.weight_bits if record else None,
            activation_bits=record.activation_bits if record else None,
            zeros=record.sparsity if record else 0.0,
            float_inputs=record is not None and record.inputs in FLOAT_INPUTS,
        )
        found.append(work)
    return tuple(found)


def shape_of(call: Call) -> str:
    """The canonical text of what a run's speed depends on, apart from bits."""
    layer = call.layer
    weight = _times(layer.weight.shape)
    if isinstance(layer, nn.Linear):
        return f"{weight} @{call.input.numel() // max(1, layer.in_features)}"
    if isinstance(layer, nn.Embedding):
        return f"{weight} @{call.input.numel()}"
    padding = layer.padding if isinstance(layer.padding, str) else _one(layer.padding)
    mode = "" if layer.padding_mode == "zeros" else f" {layer.padding_mode}"
    steps = f"s{_one(layer.stride)} p{padding} d{_one(layer.dilation)} g{layer.groups}{mode}"
    sizes = f"@{_times(call.input[-len(layer.kernel_size) :])}"
    if isinstance(layer, nn.ConvTranspose2d):
        sizes += f">{_times(call.output[-2:])}"  # its stride alone does not say
    return f"{weight} {steps} {sizes}"


def _layers(module: nn.Module) -> list[tuple[str, nn.Module, Kind]]:
    """Name, what is called, and the layer itself, without what is inside a quantised one."""
    found: list[tuple[str, nn.Module, Kind]] = []
    inside: set[nn.Module] = set()
    for name, part in module.named_modules():
        layer = part.layer if isinstance(part, QuantizedLayer) else part
        if part in inside or not isinstance(layer, KINDS):
            continue
        inside.add(layer)
        found.append((name, part, layer))
    return found


def _one(values: tuple[int, ...]) -> str:
    """Equal numbers once: 1 for (1, 1), 2x1 for (2, 1)."""
    return str(values[0]) if len(set(values)) == 1 else _times(values)


def _times(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values))
