"""Which layers a device is asked about: those of a model, as they are and narrower.

Widths are the whole, a half and a quarter of a layer's inputs and outputs, both together and each
alone; of a convolution also the one of 1 x 1 that a low rank puts behind it. Knows nothing of
targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from compressors.record import LayerKind
from evaluation.work import Call

SHARES = (2, 4)  # halves and quarters
NARROWEST = 8  # channels below which nothing is cut
CONVOLUTIONS: dict[LayerKind, type[nn.Module]] = {
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv_transpose2d": nn.ConvTranspose2d,
}
FACTS = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


@dataclass(frozen=True)
class LayerShape:
    """Enough of a layer to build one that takes as long."""

    kind: LayerKind
    inputs: int  # channels; of an embedding, the rows of its table
    outputs: int
    sizes: tuple[int, ...]  # of a sample besides its channels
    bias: bool = False
    facts: tuple[tuple[str, Any], ...] = ()  # what else a convolution is made with

    @property
    def groups(self) -> int:
        """Of a convolution."""
        return int(dict(self.facts).get("groups", 1))

    def build(self) -> nn.Module:
        """The layer, with weights of no meaning."""
        if self.kind == "linear":
            return nn.Linear(self.inputs, self.outputs, self.bias)
        if self.kind == "embedding":
            return nn.Embedding(self.inputs, self.outputs)
        return CONVOLUTIONS[self.kind](
            self.inputs, self.outputs, bias=self.bias, **dict(self.facts)
        )

    def samples(self, count: int) -> Tensor:
        """Made-up inputs, the same ones every time."""
        chance = torch.Generator().manual_seed(0)
        if self.kind == "embedding":
            return torch.randint(0, self.inputs, (count, *self.sizes), generator=chance)
        channels = (self.inputs,)
        inner = (*self.sizes, *channels) if self.kind == "linear" else (*channels, *self.sizes)
        return torch.randn(count, *inner, generator=chance)


def shapes_of(calls: Iterable[Call], multiple: int = 1) -> list[LayerShape]:
    """Every shape worth timing, once, the model's own first; widths are multiples."""
    own = list(dict.fromkeys(_shape(call) for call in calls))
    behind = [_behind(call) for call in calls if _can_be_cut_in_rank(call)]
    every = list(dict.fromkeys([*own, *behind]))
    cut = [each for shape in every for each in _narrower(shape, multiple)]
    return list(dict.fromkeys([*every, *cut]))


def _shape(call: Call) -> LayerShape:
    layer = call.layer
    if isinstance(layer, nn.Embedding):
        count = call.input.numel()
        return LayerShape("embedding", layer.num_embeddings, layer.embedding_dim, _rows(count))
    if isinstance(layer, nn.Linear):
        rows = call.input.numel() // max(1, layer.in_features)
        return LayerShape(
            "linear", layer.in_features, layer.out_features, _rows(rows), layer.bias is not None
        )
    names = FACTS + (("output_padding",) if call.kind == "conv_transpose2d" else ())
    facts = tuple((name, getattr(layer, name)) for name in names)
    sizes = tuple(call.input[-len(layer.kernel_size) :])
    bias = True  # of its own, or of the norm that was folded into it
    return LayerShape(call.kind, layer.in_channels, layer.out_channels, sizes, bias, facts)


def _rows(count: int) -> tuple[int, ...]:
    return (count,) if count > 1 else ()


def _can_be_cut_in_rank(call: Call) -> bool:
    layer = call.layer
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size != (1, 1)


def _behind(call: Call) -> LayerShape:
    """The 1 x 1 convolution to the same outputs, where they are."""
    layer = call.layer
    assert isinstance(layer, nn.Conv2d)
    ones = {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    facts = tuple({**ones, "groups": 1, "padding_mode": "zeros"}.items())
    channels = layer.out_channels
    return LayerShape("conv2d", channels, channels, tuple(call.output[-2:]), True, facts)


def _narrower(shape: LayerShape, multiple: int) -> Iterator[LayerShape]:
    if shape.groups > 1:
        if shape.groups == shape.inputs == shape.outputs:
            yield from (_depthwise(shape, width) for width in _widths(shape.inputs, multiple))
        return
    inputs = () if shape.kind == "embedding" else _widths(shape.inputs, multiple)
    outputs = _widths(shape.outputs, multiple)
    yield from (
        replace(shape, inputs=few, outputs=less) for few, less in zip(inputs, outputs, strict=False)
    )
    yield from (replace(shape, inputs=few) for few in inputs)
    yield from (replace(shape, outputs=few) for few in outputs)


def _depthwise(shape: LayerShape, width: int) -> LayerShape:
    facts = tuple({**dict(shape.facts), "groups": width}.items())
    return replace(shape, inputs=width, outputs=width, facts=facts)


def _widths(channels: int, multiple: int) -> list[int]:
    """Less than all of them, in multiples, and not less than one multiple."""
    if channels < NARROWEST:
        return []
    found = (max(multiple, channels // share // multiple * multiple) for share in SHARES)
    return [width for width in dict.fromkeys(found) if width < channels]
