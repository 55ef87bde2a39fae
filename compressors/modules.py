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
    """The kind of a layer that can be compressed, or None for any other module.

    A subclass that computes something else (a standardised weight, its own padding) is none, nor
    is a layer whose weight is made of other parameters (`parametrizations`, old weight norms).
    """
    if "weight" not in module._parameters:
        return None
    if isinstance(module, nn.Conv2d):
        return "conv2d" if _inherits(module, nn.Conv2d, "forward", "_conv_forward") else None
    if isinstance(module, nn.Linear):
        return "linear" if _inherits(module, nn.Linear, "forward") else None
    return None


def _inherits(module: nn.Module, base: type[nn.Module], *methods: str) -> bool:
    return all(getattr(type(module), method) is getattr(base, method) for method in methods)


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


def keep_calls(module: nn.Module) -> None:
    """See that the module is called, by a hook that does nothing.

    Where torch's transformer layers find no hooks they take the weights of the layers inside and
    compute without calling them.
    """
    module.register_forward_pre_hook(_nothing)


def _nothing(module: nn.Module, args: object) -> None:
    del module, args


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
