"""What a module costs, whatever runs it: its parameters, and its multiply-accumulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compressors.modules import device_of, moved

COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)  # an embedding multiplies nothing
Counted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d


def parameters(module: nn.Module) -> int:
    """Numbers learnt, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of every linear layer and convolution for one sample."""
    counts: list[int] = []

    def count(layer: Counted, args: tuple[Tensor, ...], output: Tensor) -> None:
        # Each weight of a row meets every output, but in a transposed convolution every input.
        met = args[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts.append(met.numel() * layer.weight[0].numel())

    layers: list[Any] = [m for m in module.modules() if isinstance(m, COUNTED)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(*(tensor[:1] for tensor in moved(example, device_of(module))))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return sum(counts)
