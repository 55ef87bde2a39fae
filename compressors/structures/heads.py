"""Which rows and columns of an attention's layers are which head's, and how heads are cut out.

Knows nothing of which heads matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from compressors.structures.attention import OpenAttention
from compressors.structures.structure import Attention


def rows_of(attention: Attention, layer: nn.Linear, name: str, heads: Iterable[int]) -> list[int]:
    """The rows of a query, key or value layer that make these heads."""
    return _places(layer.out_features, attention.packed()[name], attention.heads, heads)


def columns_of(attention: Attention, layer: nn.Linear, heads: Iterable[int]) -> list[int]:
    """The columns of the output layer that read these heads."""
    return _places(layer.in_features, 1, attention.heads, heads)


def _places(width: int, parts: int, count: int, heads: Iterable[int]) -> list[int]:
    part, head = width // parts, width // parts // count
    wanted = sorted(heads)
    return [
        index * part + which * head + place
        for index in range(parts)
        for which in wanted
        for place in range(head)
    ]


def keep_heads(model: nn.Module, attention: Attention, kept: Sequence[int]) -> None:
    """Cut an attention down to these heads, in place, in the order in which they were."""
    kept = sorted(kept)
    for name in attention.packed():
        layer = linear_at(model, name)
        _keep(layer, rows_of(attention, layer, name, kept), 0)
        layer.out_features = layer.weight.shape[0]
    output = linear_at(model, attention.output)
    _keep(output, columns_of(attention, output, kept), 1)
    output.in_features = output.weight.shape[1]
    for path in attention.counts:
        _set(model, path, len(kept))
    for path in attention.sizes:
        _set(model, path, _get(model, path) // attention.heads * len(kept))
    module = model.get_submodule(attention.name)
    if isinstance(module, OpenAttention):
        module.keep(kept)


def linear_at(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of that name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _keep(layer: nn.Linear, places: list[int], dimension: int) -> None:
    layer.weight = _part(layer.weight, places, dimension)
    if dimension == 0 and layer.bias is not None:
        layer.bias = _part(layer.bias, places, 0)


def _part(values: Tensor, places: list[int], dimension: int) -> nn.Parameter:
    index = torch.tensor(places, device=values.device)
    return nn.Parameter(values.detach().index_select(dimension, index), values.requires_grad)


def _get(model: nn.Module, path: str) -> int:
    owner, _, name = path.rpartition(".")
    value = getattr(model.get_submodule(owner), name)
    assert isinstance(value, int)
    return value


def _set(model: nn.Module, path: str, value: int) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, value)
