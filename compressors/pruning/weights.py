"""Weights of every kind of layer in one shape: outputs x kernel positions x inputs.

The inputs come last, next to each other, because the kernels that skip the zeros of an n:m
pattern want it along them: a sparse convolution sums over input channels innermost, position by
position of its kernel. An embedding's row has no inputs; its features stand in their place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_blocks(layer: nn.Module, values: Tensor) -> Tensor:
    """A weight, or what has its shape, as outputs x positions x inputs (of one group)."""
    if isinstance(layer, nn.ConvTranspose2d):
        inputs, outputs = values.shape[:2]
        split = values.reshape(layer.groups, inputs // layer.groups, outputs, -1)
        return split.permute(0, 2, 3, 1).flatten(0, 1)
    return values.reshape(*values.shape[:2], -1).transpose(1, 2)


def as_weight(layer: nn.Module, blocks: Tensor) -> Tensor:
    """The blocks in the shape of the layer's weight again."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.ConvTranspose2d):
        groups, (_, positions, inputs) = layer.groups, blocks.shape
        split = blocks.reshape(groups, -1, positions, inputs).permute(0, 3, 1, 2)
        return split.reshape(weight.shape).contiguous()
    return blocks.transpose(1, 2).reshape(weight.shape).contiguous()


def input_groups(layer: nn.Module, features: Tensor) -> Tensor:
    """Values of input features so that they meet the blocks, group by group."""
    groups = getattr(layer, "groups", 1)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    outputs = weight.shape[1] * groups if isinstance(layer, nn.ConvTranspose2d) else len(weight)
    rows = features.view(groups, -1).repeat_interleave(outputs // groups, dim=0)
    return rows.unsqueeze(1)


def positions_last(gram: Tensor, positions: int) -> Tensor:
    """A Gram matrix of inputs x positions with its columns ordered as the blocks are."""
    inputs = gram.shape[-1] // positions
    order = torch.arange(inputs * positions).view(inputs, positions).T.flatten()
    return gram[:, order][:, :, order]
