"""Through which functions a positive factor a channel can be drawn, and where channels then are.

From a function's name and arguments to the axis that carries a layer's output channels in its
result; None where the factors cannot be told apart, or change more than they scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor

POINTWISE = {"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu"} | {
    *("dropout", "dropout_", "dropout1d", "dropout2d", "feature_dropout", "contiguous", "clone")
}
RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze"}
POOLS = {
    f"{kind}_pool{n}d": n for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for n in (1, 2)
}
EPS = 1e-5  # where a call of batch_norm names none


@dataclass(frozen=True)
class Norm:
    """A batch norm between two layers, by its tensors."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All four of them."""
        return (self.mean, self.variance, self.weight, self.bias)


@dataclass(frozen=True)
class Carried:
    """A layer's output channels, along an axis on which each has so many positions."""

    layer: str
    axis: int
    positions: int = 1
    norm: Norm | None = None


@dataclass(frozen=True)
class Applied:
    """One function called on a tensor of some shape, with a tensor of another as its result."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    given: tuple[int, ...]
    result: tuple[int, ...]

    def argument(self, position: int, name: str) -> Any:
        """An argument by place or name; None where it was not given."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name)


def carry(carried: Carried, call: Applied) -> Carried | None:
    """The channels in the function's result."""
    if call.name in POINTWISE:
        return carried
    if call.name in POOLS:
        return carried if carried.axis < len(call.given) - POOLS[call.name] else None
    if call.name == "pad":
        return None if call.argument(3, "value") else carried
    if call.name in RESHAPES:
        return _reshaped(carried, call)
    if call.name == "mean":
        return _averaged(carried, call)
    return _normed(carried, call) if call.name == "batch_norm" else None


def _reshaped(carried: Carried, call: Applied) -> Carried | None:
    """The channels where they are whole, and where what follows them is merged into them."""
    old, new, at = call.given, call.result, carried.axis
    before, size, after = prod(old[:at]), old[at], prod(old[at + 1 :])
    for axis, length in enumerate(new):
        merged = length // size if size else 0
        same = prod(new[:axis]) == before and merged * prod(new[axis + 1 :]) == after
        if same and merged * size == length:
            return replace(carried, axis=axis, positions=carried.positions * merged)
    return None


def _averaged(carried: Carried, call: Applied) -> Carried | None:
    over = call.argument(1, "dim")
    if over is None:
        return None
    dims = {d % len(call.given) for d in ((over,) if isinstance(over, int) else over)}
    if carried.axis in dims:
        return None
    gone = 0 if call.argument(2, "keepdim") else sum(d < carried.axis for d in dims)
    return replace(carried, axis=carried.axis - gone)


def _normed(carried: Carried, call: Applied) -> Carried | None:
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (call.argument(i + 1, name) for i, name in enumerate(names))
    plain = carried.axis == 1 and carried.positions == 1 and carried.norm is None
    whole = not any(tensor is None for tensor in (mean, variance, weight, bias))
    if not plain or not whole or call.argument(5, "training"):
        return None
    eps = call.argument(7, "eps")
    return replace(carried, norm=Norm(mean, variance, weight, bias, EPS if eps is None else eps))
