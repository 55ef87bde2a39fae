"""Which layer's output channels become which layer's input channels, and by nothing but scaling.

One forward pass is watched, function by function: a pair is two layers between which there are
only functions through which a positive factor a channel can be drawn, and where every tensor on
the way is read once. Functions that torch cannot show, such as compiled ones, end a flow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressors.modules import device_of, eval_mode, moved
from compressors.structures.tracing import tensors_in

Layer = nn.Linear | nn.Conv1d | nn.Conv2d

_LAYERS = {"linear": 0, "conv1d": 1, "conv2d": 2}  # and how many dimensions follow the channels
_POINTWISE = {"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu"} | {
    *("dropout", "dropout_", "dropout1d", "dropout2d", "feature_dropout", "contiguous", "clone")
}
_RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze"}
_POOLS = {
    f"{kind}_pool{n}d": n for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for n in (1, 2)
}
_LOOKS = {"__get__", "size", "dim", "numel", "is_contiguous", "is_floating_point", "__len__"}


@dataclass(frozen=True)
class Norm:
    """A batch norm between two layers, by its tensors."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True)
class Pair:
    """Two layers by name; each channel of the first is so many input channels of the second."""

    first: str
    second: str
    norm: Norm | None
    positions: int


@dataclass
class _Value:
    """A tensor as it is between two changes in place: what it carries, where it comes from."""

    carried: _Carried | None = None
    source: _Value | None = None
    uses: int = 0


@dataclass(frozen=True)
class _Carried:
    """A layer's output channels, along an axis on which each has so many positions."""

    layer: str
    axis: int
    positions: int = 1
    norm: Norm | None = None


@dataclass
class _Watch(TorchFunctionMode):
    layers: dict[int, tuple[str, Layer]]  # by the id of the weight
    pairs: list[tuple[Pair, _Value]] = field(default_factory=list)
    _values: dict[int, _Value] = field(default_factory=dict)
    _alive: list[Any] = field(default_factory=list)  # ids are unique only among the living

    def __post_init__(self) -> None:
        super().__init__()

    def value(self, tensor: Tensor) -> _Value:
        """The tensor as it is now."""
        self._alive.append(tensor)
        return self._values.setdefault(id(tensor), _Value())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        operands = [self.value(tensor) for tensor in tensors_in((args, kwargs))]
        source = self.value(args[0]) if args and isinstance(args[0], Tensor) else None
        shape = tuple(args[0].shape) if source else ()
        result = func(*args, **kwargs)
        results = tensors_in(result)
        if results or name not in _LOOKS:
            for operand in operands:
                operand.uses += 1
        for tensor in results:
            self._alive.append(tensor)
            self._values[id(tensor)] = _Value()
        if source and isinstance(result, Tensor):
            carried = self._carried(name, args, kwargs, source, shape, result)
            self._values[id(result)] = _Value(carried, source)
        return result

    def _carried(
        self,
        name: str,
        args: Any,
        kwargs: Any,
        source: _Value,
        shape: tuple[int, ...],
        result: Tensor,
    ) -> _Carried | None:
        if name in _LAYERS:
            return self._through_layer(name, args, kwargs, source, result)
        carried = source.carried
        if carried is None or name in _POINTWISE:
            return carried
        if name in _POOLS:
            return carried if carried.axis < len(shape) - _POOLS[name] else None
        if name in _RESHAPES:
            return _reshaped(carried, shape, tuple(result.shape))
        if name == "mean":
            return _averaged(carried, args, kwargs, len(shape))
        if name == "batch_norm":
            return _normed(carried, args, kwargs)
        if name == "pad":
            value = _argument(args, kwargs, 3, "value")
            return carried if not value else None
        return None

    def _through_layer(
        self, name: str, args: Any, kwargs: Any, source: _Value, result: Tensor
    ) -> _Carried | None:
        known = self.layers.get(id(_argument(args, kwargs, 1, "weight")))
        if known is None:
            return None
        axis = result.dim() - 1 - _LAYERS[name]
        if source.carried is not None and source.carried.axis == axis:
            carried = source.carried
            pair = Pair(carried.layer, known[0], carried.norm, carried.positions)
            self.pairs.append((pair, source))
        return _Carried(known[0], axis)


def find_pairs(
    model: nn.Module, example: tuple[Tensor, ...], layers: Collection[str]
) -> tuple[Pair, ...]:
    """The pairs among the named layers, in the order in which they run."""
    slots = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    named = {name: model.get_submodule(name) for name in layers}
    known = {
        id(layer.weight): (name, layer)
        for name, layer in named.items()
        if isinstance(layer, Layer) and slots[id(layer.weight)] == 1
    }
    watch = _Watch(known)
    with eval_mode(model), torch.no_grad(), watch:
        outputs = model(*moved(example, device_of(model)))
    for tensor in tensors_in(outputs):
        watch.value(tensor).uses += 1
    return tuple(pair for pair, last in watch.pairs if _is_sole(pair, last, named, watch))


def _is_sole(pair: Pair, last: _Value, named: dict[str, nn.Module], watch: _Watch) -> bool:
    """Whether all on the way from the first layer to the second is read once."""
    parameters = [p for name in (pair.first, pair.second) for p in named[name].parameters()]
    if pair.norm is not None:
        parameters += [pair.norm.weight, pair.norm.bias, pair.norm.mean, pair.norm.variance]
    if any(watch.value(parameter).uses != 1 for parameter in parameters):
        return False
    value: _Value | None = last
    while value is not None and value.carried is not None and value.carried.layer == pair.first:
        if value.uses != 1:
            return False
        value = value.source
    return True


def _normed(carried: _Carried, args: Any, kwargs: Any) -> _Carried | None:
    names = ("running_mean", "running_var", "weight", "bias")
    tensors = [_argument(args, kwargs, i + 1, name) for i, name in enumerate(names)]
    eps = _argument(args, kwargs, 7, "eps")
    training = _argument(args, kwargs, 5, "training")
    plain = carried.axis == 1 and carried.positions == 1 and carried.norm is None
    if not plain or training or any(t is None or t.grad_fn for t in tensors):
        return None
    return replace(carried, norm=Norm(*tensors, eps=1e-5 if eps is None else eps))


def _reshaped(carried: _Carried, old: tuple[int, ...], new: tuple[int, ...]) -> _Carried | None:
    """The channels where they are whole, and where what follows them is merged into them."""
    before, size, after = (
        prod(old[: carried.axis]),
        old[carried.axis],
        prod(old[carried.axis + 1 :]),
    )
    for axis, length in enumerate(new):
        if prod(new[:axis]) == before and length >= size and length % size == 0:
            merged = length // size
            if merged * prod(new[axis + 1 :]) == after:
                return replace(carried, axis=axis, positions=carried.positions * merged)
    return None


def _averaged(carried: _Carried, args: Any, kwargs: Any, dims: int) -> _Carried | None:
    over = _argument(args, kwargs, 1, "dim")
    if over is None:
        return None
    over = {d % dims for d in ((over,) if isinstance(over, int) else over)}
    if carried.axis in over:
        return None
    gone = 0 if _argument(args, kwargs, 2, "keepdim") else sum(d < carried.axis for d in over)
    return replace(carried, axis=carried.axis - gone)


def _argument(args: Any, kwargs: Any, position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)
