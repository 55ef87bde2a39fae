"""One forward pass, watched: which modules ran on which tensors, and where tensors were added.

Hooks see the modules, a torch function mode sees the functions between them; no symbolic tracing,
so that control flow in the model is no obstacle. Knows nothing of what the observations are for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressors.modules import device_of, eval_mode, moved

# What a model's own code, or a library that reads it, raises where something is beyond it.
BEYOND = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_LOOKS = {"__get__", "size", "dim"}  # reading a shape is no use of the values


@dataclass
class Call:
    """One run of a module. `residual` is set when its own input was added within it."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None
    residual: bool = False


@dataclass
class Trace:
    """The calls in the order in which they began, and how often each tensor was used."""

    calls: list[Call] = field(default_factory=list)
    output: Any = None
    _uses: Counter[int] = field(default_factory=Counter)
    _added: set[int] = field(default_factory=set)
    _alive: list[Tensor] = field(default_factory=list)  # ids are unique only among the living

    def uses(self, tensor: Tensor) -> int:
        """How many functions took the tensor, and whether the model returned it."""
        return self._uses[id(tensor)]

    def was_added(self, tensor: Tensor) -> bool:
        """Whether the tensor was added to something."""
        return id(tensor) in self._added

    def calls_of(self, module: nn.Module) -> list[Call]:
        """The runs of one module."""
        return [call for call in self.calls if call.module is module]

    def note_use(self, tensors: Iterable[Tensor]) -> None:
        """Count one use of each tensor."""
        for tensor in tensors:
            self._alive.append(tensor)
            self._uses[id(tensor)] += 1

    def note_addition(self, tensors: Iterable[Tensor]) -> None:
        """Remember that these were added."""
        self._added.update(id(tensor) for tensor in tensors)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(item)]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def output_shapes(model: nn.Module, args: tuple[Tensor, ...]) -> list[torch.Size]:
    """The shapes of what the model returns, in its present mode."""
    with torch.no_grad():
        return [tensor.shape for tensor in tensors_in(model(*moved(args, device_of(model))))]


def trace(model: nn.Module, args: tuple[Tensor, ...]) -> Trace:
    """Run the model once in eval mode without gradients, and say what happened."""
    seen = Trace()
    running: list[Call] = []
    with ExitStack() as stack:
        stack.enter_context(eval_mode(model))
        for name, module in model.named_modules():
            before, after = _hooks(name, seen, running)
            for handle in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
            ):
                stack.callback(handle.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Watch(seen, running))
        seen.output = model(*moved(args, device_of(model)))
    seen.note_use(tensors_in(seen.output))
    return seen


def _hooks(
    name: str, seen: Trace, running: list[Call]
) -> tuple[Callable[..., None], Callable[..., None]]:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(name, module, args, kwargs)
        seen.calls.append(call)
        running.append(call)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        running.pop().output = output

    return before, after


class _Watch(TorchFunctionMode):
    """Counts uses, and marks the innermost running call whose own input is added."""

    def __init__(self, seen: Trace, running: list[Call]) -> None:
        super().__init__()
        self._seen = seen
        self._running = running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = getattr(func, "__name__", "")
        operands = tensors_in((args, kwargs or {}))
        if name not in _LOOKS:
            self._seen.note_use(operands)
        if name in _ADDITIONS:
            self._seen.note_addition(operands)
            self._mark_residual(operands)
        return func(*args, **(kwargs or {}))

    def _mark_residual(self, operands: list[Tensor]) -> None:
        for call in reversed(self._running):
            given = next(iter(tensors_in((call.args, call.kwargs))), None)
            if given is not None and any(operand is given for operand in operands):
                call.residual = True
                return
