"""Tucker-2: a convolution as 1 x 1, a k x k core of fewer channels, 1 x 1.

The bases of inputs and outputs are the leading singular vectors of the weight's unfoldings
(HOSVD), then improved in turns, each given the other (HOOI), which never makes the error larger.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressors.calibration.cache import Tensors
from compressors.lowrank.decompositions import left_vectors
from compressors.lowrank.making import conv

PRODUCT = "icxy,pikl,opzw->ockl"
TURNS = 3


def full_ranks(weight: Tensor) -> tuple[int, int]:
    """Of the inputs' unfolding, and of the outputs'."""
    outputs, inputs = weight.shape[:2]
    rest = weight[0, 0].numel()
    return min(inputs, outputs * rest), min(outputs, inputs * rest)


def within_reach(inputs: int, outputs: int, weight: Tensor) -> tuple[int, int]:
    """Ranks no larger than a core of the other rank can use."""
    rest = weight[0, 0].numel()
    outputs = min(outputs, inputs * rest)
    return min(inputs, outputs * rest), outputs


def parts(layer: nn.Module, ranks: tuple[int, ...]) -> tuple[nn.Module, ...]:
    """The three convolutions; the core has stride, padding and dilation, the last the bias."""
    assert isinstance(layer, nn.Conv2d)
    inputs, outputs = ranks
    return (
        conv(layer, outputs=inputs, along=()),
        conv(layer, inputs=inputs, outputs=outputs),
        conv(layer, inputs=outputs, along=()),
    )


def bases(weight: Tensor) -> dict[str, Tensor]:
    """Both full bases, with their singular values."""
    input_values, inputs = left_vectors(_inputs_first(weight))
    output_values, outputs = left_vectors(weight.flatten(1))
    return {
        "input": inputs.contiguous(),
        "input values": input_values,
        "output": outputs.contiguous(),
        "output values": output_values,
    }


def fitted(weight: Tensor, whole: Tensors, ranks: tuple[int, ...]) -> dict[str, Tensor]:
    """Both bases cut to their ranks and improved in turns."""
    inputs, outputs = (
        whole[name][:, :rank].to(weight)
        for name, rank in zip(("input", "output"), ranks, strict=True)
    )
    whole_inputs, whole_outputs = (
        rank == full for rank, full in zip(ranks, full_ranks(weight), strict=True)
    )
    for _ in range(0 if whole_inputs or whole_outputs else TURNS):
        seen = torch.einsum("ockl,ci->oikl", weight, inputs)
        outputs = left_vectors(seen.flatten(1))[1][:, : ranks[1]]
        seen = torch.einsum("ockl,op->pckl", weight, outputs)
        inputs = left_vectors(_inputs_first(seen))[1][:, : ranks[0]]
    return {"input": inputs.contiguous(), "output": outputs.contiguous()}


def weights(weight: Tensor, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of the three convolutions, channel by channel as large on both sides."""
    core = torch.einsum("ockl,ci,op->pikl", weight, inputs, outputs)
    ahead, behind = _roots(core.pow(2).sum((0, 2, 3))), _roots(core.pow(2).sum((1, 2, 3)))
    core = core / ahead[:, None, None] / behind[:, None, None, None]
    return (inputs * ahead).T[:, :, None, None], core, (outputs * behind)[:, :, None, None]


def _inputs_first(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).flatten(1)


def _roots(squares: Tensor) -> Tensor:
    """The cube roots of channels' sizes, which come squared; 1 where there is nothing."""
    return torch.where(squares > 0, squares.pow(1 / 6), torch.ones_like(squares))
