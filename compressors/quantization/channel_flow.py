"""Which layer's output channels become which layer's input channels, and by nothing but scaling.

One forward pass is watched, function by function: a pair is two layers between which there are
only functions of `scaling_rules`, and where every tensor on the way is read once. Knows nothing
of functions that torch does not show, such as compiled ones: there a flow ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressors.modules import device_of, eval_mode, moved
from compressors.quantization.scaling_rules import Applied, Carried, Norm, carry
from compressors.structures.tracing import tensors_in

Layer = nn.Linear | nn.Conv1d | nn.Conv2d

_LAYERS = {"linear": 0, "conv1d": 1, "conv2d": 2}  # and how many dimensions follow the channels
_LOOKS = {"__get__", "size", "dim", "numel", "is_contiguous", "is_floating_point", "__len__"}


@dataclass(frozen=True)
class Pair:
    """Two layers by name; each channel of the first is so many input channels of the second."""

    first: str
    second: str
    norm: Norm | None
    positions: int


def find_pairs(
    model: nn.Module, example: tuple[Tensor, ...], layers: Collection[str]
) -> tuple[Pair, ...]:
    """The pairs among the named layers, in the order in which they run."""
    modules = {name: model.get_submodule(name) for name in layers}
    named = {name: layer for name, layer in modules.items() if isinstance(layer, Layer)}
    watch = _Watch({id(layer.weight): name for name, layer in named.items()})
    with eval_mode(model), torch.no_grad(), watch:
        outputs = model(*moved(example, device_of(model)))
    watch.note_use(tensors_in(outputs))
    held = Counter(id(tensor) for tensor in _held(model))

    def is_sole(pair: Pair, last: _Value) -> bool:
        """Whether all on the way from the first layer to the second is held and read once."""
        tensors: list[Tensor] = list(pair.norm.tensors) if pair.norm else []
        tensors += [*named[pair.first].parameters(), *named[pair.second].parameters()]
        if any(held[id(tensor)] != 1 or watch.value(tensor).uses != 1 for tensor in tensors):
            return False
        return all(value.uses == 1 for value in last.way())

    return tuple(pair for pair, last in watch.pairs if is_sole(pair, last))


@dataclass
class _Value:
    """A tensor as it is between two changes in place: what it carries, where it comes from."""

    carried: Carried | None = None
    source: _Value | None = None
    uses: int = 0

    def way(self) -> Iterable[_Value]:
        """This and those before it, back to the output of the layer whose channels it carries."""
        value: _Value | None = self
        while value and value.carried and self.carried:
            if value.carried.layer != self.carried.layer:
                return
            yield value
            value = value.source


class _Watch(TorchFunctionMode):
    """Counts uses, follows channels, and collects the pairs of layers that they connect."""

    def __init__(self, layers: dict[int, str]) -> None:
        super().__init__()
        self.pairs: list[tuple[Pair, _Value]] = []
        self._layers = layers  # names by the weight's id
        self._values: dict[int, _Value] = {}
        self._alive: list[Tensor] = []  # ids are unique only among the living

    def value(self, tensor: Tensor) -> _Value:
        """The tensor as it is now."""
        self._alive.append(tensor)
        return self._values.setdefault(id(tensor), _Value())

    def note_use(self, tensors: Iterable[Tensor]) -> None:
        """Count one use of each tensor."""
        for tensor in tensors:
            self.value(tensor).uses += 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        source, given = (None, ()) if first is None else (self.value(first), tuple(first.shape))
        operands = [self.value(tensor) for tensor in tensors_in((args, kwargs))]
        result = func(*args, **kwargs)
        results = tensors_in(result)
        if results or name not in _LOOKS:
            for operand in operands:
                operand.uses += 1
        self._alive += results
        self._values.update({id(tensor): _Value() for tensor in results})
        if source is not None and isinstance(result, Tensor):
            call = Applied(name, args, kwargs, given, tuple(result.shape))
            self._values[id(result)] = _Value(self._carried(source, call), source)
        return result

    def _carried(self, source: _Value, call: Applied) -> Carried | None:
        if call.name not in _LAYERS:
            return carry(source.carried, call) if source.carried else None
        layer = self._layers.get(id(call.argument(1, "weight")))
        if layer is None:
            return None
        axis, carried = len(call.result) - 1 - _LAYERS[call.name], source.carried
        if carried is not None and carried.axis == axis:
            pair = Pair(carried.layer, layer, carried.norm, carried.positions)
            self.pairs.append((pair, source))
        return Carried(layer, axis)


def _held(model: nn.Module) -> list[Tensor]:
    """Every parameter and buffer, once for each module that holds it."""
    slots = [(*m._parameters.values(), *m._buffers.values()) for m in model.modules()]
    return [tensor for module in slots for tensor in module if tensor is not None]
