"""What a module costs, whatever runs it: its parameters, and its multiply-accumulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def parameters(module: nn.Module) -> int:
    """Numbers learnt, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of every Linear and Conv2d for one sample."""
    counts: list[int] = []

    def count(layer: nn.Conv2d | nn.Linear, _: Any, output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(*(tensor[:1] for tensor in example))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return sum(counts)
