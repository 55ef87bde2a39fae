"""What layers cost: weights, and multiply-accumulates for the sizes of maps that they meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from compressors.modules import device_of, eval_mode, moved

Size = tuple[int, ...]
Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d
NOMINAL = 64  # the side of maps where no example says


def weights_of(parts: Iterable[nn.Module]) -> int:
    """Numbers in the weights, biases left out."""
    return sum(_weight(part).numel() for part in parts)


def macs_of(parts: Sequence[nn.Module], sizes: Sequence[Size]) -> int:
    """Multiply-accumulates of parts in a row, over inputs of these sizes; a table has none."""
    total = 0
    for size in sizes:
        for part in parts:
            after = _size_after(part, size)
            if not isinstance(part, nn.Embedding):
                positions = size if isinstance(part, nn.ConvTranspose2d) else after
                total += prod(positions) * _weight(part).numel()
            size = after
    return total


def nominal_sizes(layer: nn.Module) -> list[Size]:
    """One call on a map large enough that its edges hardly count."""
    return [(NOMINAL,) * _dimensions(layer)]


@torch.no_grad()
def sizes_met(
    model: nn.Module, layers: dict[str, nn.Module], example: tuple[Tensor, ...]
) -> dict[str, list[Size]]:
    """The sizes of the maps that convolutions read, call by call, in one run of the model."""
    sizes: dict[str, list[Size]] = {name: [] for name in layers}
    handles = []
    for name, layer in layers.items():

        def see(
            module: nn.Module, args: tuple[Tensor, ...], kept: list[Size] = sizes[name]
        ) -> None:
            kept.append(tuple(args[0].shape[args[0].dim() - _dimensions(module) :]))

        handles.append(layer.register_forward_pre_hook(see))
    try:
        with eval_mode(model):
            model(*moved(example, device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _dimensions(layer: nn.Module) -> int:
    return _weight(layer).dim() - 2


def _size_after(part: nn.Module, size: Size) -> Size:
    if not isinstance(part, Convolution):
        return size
    facts = zip(size, part.kernel_size, part.stride, part.dilation, _padding(part), strict=True)
    if isinstance(part, nn.ConvTranspose2d):
        return tuple(
            (n - 1) * stride - padding + dilation * (kernel - 1) + extra + 1
            for (n, kernel, stride, dilation, padding), extra in zip(
                facts, part.output_padding, strict=True
            )
        )
    return tuple(
        (n + padding - dilation * (kernel - 1) - 1) // stride + 1
        for n, kernel, stride, dilation, padding in facts
    )


def _padding(part: Convolution) -> list[int]:
    """Both sides together, dimension by dimension."""
    if part.padding == "same":
        return [d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True)]
    if isinstance(part.padding, str):
        return [0] * len(part.kernel_size)
    return [2 * padding for padding in part.padding]


def _weight(part: nn.Module) -> Tensor:
    weight = part.weight
    assert isinstance(weight, Tensor)
    return weight
