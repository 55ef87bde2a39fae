"""The simulated model in single precision, watched: what each layer gives, and a layer alone.

A batch norm that reads a layer's output belongs to the layer here, as files have it folded in.
Knows torch, and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Call:
    """A layer's first call in the model."""

    module: nn.Module
    output: Tensor
    more: tuple[Any, ...]  # arguments beyond the input
    named: dict[str, Any]
    norm: Norm | None  # the batch norm that reads the output

    def again(self, source: Tensor) -> Tensor:
        """What the layer alone gives for another input."""
        result: Tensor = self.module(source, *self.more, **self.named)
        return result


def single_precision(module: nn.Module) -> nn.Module:
    """A copy on the CPU, as files compute it."""
    return deepcopy(module).cpu().float().eval()


def as_single(args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs on the CPU, as files take them."""
    return tuple((a.float() if a.is_floating_point() else a).cpu() for a in args)


@torch.no_grad()
def calls(model: nn.Module, layers: Collection[str], args: tuple[Tensor, ...]) -> dict[str, Call]:
    """The first call of every layer, in the order of execution; not of layers never called.

    Nor of the projections within an attention that torch computes as one.
    """
    watch = _Watch()
    handles = []
    for name, layer in model.named_modules():
        if name in layers:
            note = partial(watch.note, name)
            handles.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        with watch:
            model(*args)
    finally:
        for handle in handles:
            handle.remove()
    return watch.calls()


class _Watch(TorchFunctionMode):
    """Notes the layers' calls, and which tensors go into a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[Tensor, Call]] = {}
        self._norms: dict[str, Norm] = {}

    def note(
        self,
        name: str,
        module: nn.Module,
        args: tuple[Any, ...],
        named: dict[str, Any],
        output: Tensor,
    ) -> None:
        """The first call alone; the output is copied, as an activation may be computed in place."""
        if name not in self._seen and args:
            self._seen[name] = output, Call(module, output.clone(), args[1:], named, None)

    def calls(self) -> dict[str, Call]:
        """What was noted."""
        found = {}
        for name, (_, call) in self._seen.items():
            norm = self._norms.get(name)
            found[name] = Call(call.module, call.output, call.more, call.named, norm)
        return found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.batch_norm, torch.batch_norm) and args:
            for name, (tensor, _) in self._seen.items():
                if tensor is args[0]:
                    self._norms[name] = partial(_called, func, args[1:], kwargs)
        return func(*args, **kwargs)


def _called(func: Any, more: tuple[Any, ...], named: dict[str, Any], x: Tensor) -> Tensor:
    result: Tensor = func(x, *more, **named)
    return result
