"""Which batch norms come straight after a layer, seen in one run of the model, and folding them.

A pair is folded where the layer runs once, and nothing else reads what it writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressors.modules import replace
from evaluation.targets.torch_device.scaled import ScaledOutput
from evaluation.targets.torch_device.stored import SmallWeight

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
FLOAT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
Norm = nn.BatchNorm1d | nn.BatchNorm2d


class _Readers(TorchFunctionMode):
    """Counts who computes with each tensor, by identity."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self.seen: list[Any] = []  # keeps tensors, so that no identity is used twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            read = {id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
            self.counts.update(read.keys())
            self.seen += [result, *read.values()]
        return result


def fold(module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Put batch norms into the layers before them, in place."""
    for name, layer, norm in _pairs(module, example):
        _into(layer, norm)
        replace(module, name, nn.Identity())


def _pairs(module: nn.Module, example: tuple[Tensor, ...]) -> list[tuple[str, nn.Module, Norm]]:
    layers = (*FLOAT_LAYERS, ScaledOutput)
    writers: dict[int, nn.Module] = {}
    runs: Counter[nn.Module] = Counter()
    read: list[tuple[str, Norm, int]] = []
    handles = []

    def wrote(layer: nn.Module, _: Any, output: Tensor) -> None:
        runs[layer] += 1
        writers[id(output)] = layer

    def reads(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(norm: nn.Module, args: Any) -> None:
            assert isinstance(norm, NORMS)
            runs[norm] += 1
            read.append((name, norm, id(args[0])))

        return hook

    for name, part in module.named_modules():
        if isinstance(part, layers):
            handles.append(part.register_forward_hook(wrote))
        elif isinstance(part, NORMS) and part.track_running_stats:
            handles.append(part.register_forward_pre_hook(reads(name)))
    try:
        with torch.no_grad(), _Readers() as readers:
            answer = module(*example)
    finally:
        for handle in handles:
            handle.remove()
    readers.counts.update(id(leaf) for leaf in tree_leaves(answer))
    return [
        (name, writers[source], norm)
        for name, norm, source in read
        if source in writers
        and readers.counts[source] == runs[norm] == runs[writers[source]] == 1
        and _channels_of(writers[source]) == norm.num_features
    ]


def _channels_of(layer: nn.Module) -> int:
    if isinstance(layer, ScaledOutput):
        return len(layer.scales)
    return int(getattr(layer, "out_channels", None) or layer.out_features)  # type: ignore[arg-type]


@torch.no_grad()
def _into(layer: nn.Module, norm: Norm) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    ones = torch.ones_like(norm.running_var)
    weight, bias = (ones if norm.weight is None else norm.weight), norm.bias
    factor = weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = (0 if bias is None else bias.double()) - norm.running_mean.double() * factor
    if isinstance(layer, ScaledOutput):
        layer.follow(factor, shift)
        return
    assert isinstance(layer, FLOAT_LAYERS)
    old = 0 if layer.bias is None else layer.bias.double() * factor
    layer.bias = nn.Parameter((old + shift).float(), requires_grad=False)
    small = layer._modules.get("small")
    if isinstance(small, SmallWeight):
        small.follow(factor)
    else:
        shape = (-1,) + (1,) * (layer.weight.dim() - 1)
        folded = (layer.weight.double() * factor.view(shape)).float()
        layer.weight = nn.Parameter(folded, requires_grad=False)
