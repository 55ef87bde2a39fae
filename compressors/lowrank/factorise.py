"""Low rank: a layer becomes two thinner ones, by the truncated SVD of its weight.

A k x k convolution becomes a k x k one with `rank` outputs and a 1 x 1 one; a linear layer two
linear ones. They stand as a Sequential at the layer's path: `layer.0`, `layer.1`. The rank is a
share of the full rank that the layer has when this step comes, after channels were removed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressors.modules import keep_calls, replace
from compressors.policies.policy_rules import rank_of
from compressors.policies.steps import LowRank


def factorise_layers(
    model: nn.Module, layers: Mapping[str, LowRank]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Factorise the named layers, in place: the ranks, and notes on layers left whole."""
    ranks: dict[str, int] = {}
    notes = []
    for name, lowrank in layers.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        outputs, inputs = layer.weight.flatten(1).shape
        rank = rank_of(min(outputs, inputs), lowrank.ratio or 1.0)
        halves = rank * (outputs + inputs)
        if halves >= outputs * inputs:
            notes.append(
                f"{name}: left whole, as rank {rank} would take {halves} weights"
                f" in place of {outputs * inputs}"
            )
            continue
        replace(model, name, factorise(layer, rank))
        ranks[name] = rank
    return ranks, tuple(notes)


class Factorised(nn.Sequential):
    """The two halves; reads as the layer did for models that look at weights and biases."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__(first, second)
        keep_calls(self)

    @property
    def weight(self) -> Tensor:
        """The product of the halves, shaped as the layer's weight."""
        first, second = self._weights()
        return (second.flatten(1) @ first.flatten(1)).reshape(len(second), *first.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias, which the second half has."""
        bias = self[1].bias
        assert bias is None or isinstance(bias, Tensor)
        return bias

    def _weights(self) -> tuple[Tensor, Tensor]:
        first, second = self[0].weight, self[1].weight
        assert isinstance(first, Tensor)
        assert isinstance(second, Tensor)
        return first, second


@torch.no_grad()
def factorise(layer: nn.Conv2d | nn.Linear, rank: int) -> Factorised:
    """The two thinner layers whose product is the nearest of that rank to the weight."""
    weight = layer.weight.detach()
    left, values, right = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    root = values[:rank].sqrt()
    first, second = _halves(layer, rank)
    _fill(first, (root[:, None] * right[:rank]).reshape(first.weight.shape))
    _fill(second, (left[:, :rank] * root).reshape(second.weight.shape))
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
    return Factorised(first, second)


def _halves(
    layer: nn.Conv2d | nn.Linear, rank: int
) -> tuple[nn.Conv2d | nn.Linear, nn.Conv2d | nn.Linear]:
    first: nn.Conv2d | nn.Linear
    second: nn.Conv2d | nn.Linear
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias=bias)
    else:
        first = nn.Conv2d(
            layer.in_channels,
            rank,
            _pair(layer.kernel_size),
            stride=_pair(layer.stride),
            padding=layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
            dilation=_pair(layer.dilation),
            bias=False,
            padding_mode=layer.padding_mode,
        )
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
    return first.to(layer.weight), second.to(layer.weight)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _fill(layer: nn.Conv2d | nn.Linear, weight: Tensor) -> None:
    layer.weight.copy_(weight)
