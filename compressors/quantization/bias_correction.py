"""Bias correction: the mean error that rounded weights cause is taken out of a layer's output.

The error is that of the weights alone, on inputs in float. Exact for linear layers, and on
average over the positions of a convolution without padding; at padded borders, where the mean
input is less than the mean of the feature map, it corrects somewhat too much.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d


@torch.no_grad()
def correct_bias(
    layer: nn.Module, original_weight: Tensor, rounded_weight: Tensor, input_mean: Tensor
) -> str | None:
    """Add (W - Wq) E[x] to the bias, in place; a note where the layer had none.

    `input_mean` is one number an input feature or channel. A layer without a bias is given one:
    the exporters fold a batch norm that follows into the bias anyway, so nothing is lowered
    differently, and where none follows it costs one number an output channel. A batch norm that
    is trained or estimated anew afterwards takes the correction out and makes its own.
    """
    assert isinstance(layer, Layer)
    weight = layer.weight
    missing = original_weight.double() - rounded_weight.double()
    error = _mean_output(layer, missing, input_mean.to(weight.device).double())
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() + error)
        return None
    layer.bias = nn.Parameter(error.to(weight.dtype), requires_grad=weight.requires_grad)
    return "bias correction made a bias where there was none"


def _mean_output(layer: Layer, weight: Tensor, inputs: Tensor) -> Tensor:
    """What a weight of the layer's shape gives on average, one number an output channel."""
    if isinstance(layer, nn.Linear):
        return weight @ inputs
    inputs = inputs.view(layer.groups, -1)
    taps = weight.flatten(2).sum(2)
    if isinstance(layer, nn.ConvTranspose2d):  # each output meets one in prod(stride) of the taps
        taps = taps.view(*inputs.shape, -1) / math.prod(layer.stride)
        return torch.einsum("gio,gi->go", taps, inputs).flatten()
    taps = taps.view(layer.groups, -1, inputs.shape[1])
    return torch.einsum("goi,gi->go", taps, inputs).flatten()
