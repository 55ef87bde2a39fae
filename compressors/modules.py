"""Small helpers over torch modules: which are layers, how to replace one, how to count.

Knows nothing of policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressors.record import LayerKind


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The kind of a layer that can be compressed, or None for any other module."""
    if isinstance(module, nn.Conv2d):
        return "conv2d"
    return "linear" if isinstance(module, nn.Linear) else None


def channels(layer: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    """Input and output channels."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    return layer.in_features, layer.out_features


def parameter_count(module: nn.Module) -> int:
    """Numbers trained, each shared one counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def replace(root: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of another and in its mode, at every path that leads to it."""
    old = root.get_submodule(name)
    new.train(old.training)
    for parent in list(root.modules()):
        for key, child in list(parent._modules.items()):
            if child is old:
                parent._modules[key] = new


def device_of(module: nn.Module) -> torch.device:
    """Where the model's parameters live."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def moved(args: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """A model's positional inputs on its device."""
    return tuple(arg.to(device) for arg in args)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Every module in eval mode, and afterwards as it was."""
    was = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, training in was.items():
            child.training = training
