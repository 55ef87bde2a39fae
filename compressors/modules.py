"""Small helpers over torch modules: which are layers, how to replace one, how to count.

Knows nothing of policies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from compressors.record import LayerKind

Layered: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding

# The methods of each kind that make it what it is.
_KINDS: tuple[tuple[type[nn.Module], LayerKind, tuple[str, ...]], ...] = (
    (nn.Linear, "linear", ("forward",)),
    (nn.Conv1d, "conv1d", ("forward", "_conv_forward")),
    (nn.Conv2d, "conv2d", ("forward", "_conv_forward")),
    (nn.ConvTranspose2d, "conv_transpose2d", ("forward", "_output_padding")),
    (nn.Embedding, "embedding", ("forward",)),
)


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The kind of a layer that can be compressed, or None for any other module.

    A subclass that computes something else (a standardised weight, its own padding) is none, nor
    is a layer whose weight is made of other parameters (`parametrizations`, old weight norms), nor
    an embedding that rewrites its table as it reads it.
    """
    if "weight" not in module._parameters or getattr(module, "max_norm", None) is not None:
        return None
    for base, kind, methods in _KINDS:
        if isinstance(module, base):
            return kind if _inherits(module, base, *methods) else None
    return None


def _inherits(module: nn.Module, base: type[nn.Module], *methods: str) -> bool:
    return all(getattr(type(module), method) is getattr(base, method) for method in methods)


def as_layer(module: nn.Module) -> Layered:
    """The module as one of the kinds of layers."""
    assert isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding))
    return module


def channels(layer: Layered) -> tuple[int, int]:
    """Input and output channels; an embedding's input channels are the rows of its table."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings, layer.embedding_dim
    return layer.in_channels, layer.out_channels


def kernel(layer: Layered) -> tuple[int, ...]:
    """The extents of a convolution's kernel; () for other layers."""
    if isinstance(layer, (nn.Linear, nn.Embedding)):
        return ()
    return tuple(layer.kernel_size)


def groups(layer: Layered) -> int:
    """The groups of a convolution; 1 for other layers."""
    return 1 if isinstance(layer, (nn.Linear, nn.Embedding)) else layer.groups


def own_parameters(target: nn.Module | nn.Parameter) -> set[int]:
    """The ids of a module's own parameters, or of a bare parameter itself."""
    if isinstance(target, nn.Parameter):
        return {id(target)}
    return {id(parameter) for parameter in target.parameters(recurse=False)}


def tied_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters that more than one module has."""
    owned = Counter(key for module in model.modules() for key in own_parameters(module))
    return {key for key, owners in owned.items() if owners > 1}


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
