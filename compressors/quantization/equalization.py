"""Cross-layer equalisation: the channels between two layers scaled to even ranges, in place.

Dividing a layer's output channel by a factor and multiplying what reads it changes no output
where only batch norms, ReLUs, pooling and the like lie between; the factors make the range of
each output channel of the first layer that of the input channel of the second. A batch norm in
between counts as folded into the first layer: it takes the factor, and how its gain differs from
channel to channel moves into the layer, statistics along with it, so that the layer's rows have
the ranges that they have once it is folded. Large biases stay as they are (no absorption).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.modules import device_of, eval_mode, moved
from compressors.quantization.channel_flow import Layer, Pair, find_pairs
from compressors.quantization.scaling_rules import Norm
from compressors.structures.tracing import tensors_in

SWEEPS = 100
SETTLED = 1e-3  # of a factor's logarithm
BOUND = 2.0**16  # factors lie between 1 / BOUND and BOUND


@torch.no_grad()
def equalize(
    model: nn.Module, example: tuple[Tensor, ...], layers: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """Even out the named layers, in place; the pairs of layers that were changed.

    Weights of less than 32 bits are scaled by powers of two, which rounds none of them. A model
    whose output changes all the same is put back as it was, and no pair is returned.
    """
    pairs = find_pairs(model, example, layers)
    if not pairs:
        return ()
    before, saved = _outputs(model, example), [(t, t.clone()) for t in _state(model)]
    for pair, factors in zip(pairs, _even_factors(model, pairs), strict=True):
        _scale(model, pair, factors)
    if not _close(before, _outputs(model, example)):
        for tensor, old in saved:
            tensor.copy_(old)
        return ()
    return tuple((pair.first, pair.second) for pair in pairs)


@dataclass(frozen=True)
class _Ranges:
    """The largest magnitude of every channel's weights, as scaled so far: groups x out x in."""

    magnitudes: Tensor

    @classmethod
    def of(cls, layer: Layer) -> _Ranges:
        """A layer's, in double precision."""
        weight = layer.weight.detach().double().abs()
        largest = weight.view(*weight.shape[:2], -1).amax(2)
        return cls(largest.view(_groups(layer), -1, largest.shape[1]))

    def rows(self) -> Tensor:
        """Of every output channel."""
        return self.magnitudes.amax(2).flatten()

    def columns(self) -> Tensor:
        """Of every input channel."""
        return self.magnitudes.amax(1).flatten()

    def scale_rows(self, factors: Tensor) -> None:
        """Multiply every output channel."""
        self.magnitudes.mul_(factors.view(*self.magnitudes.shape[:2], 1))

    def scale_columns(self, factors: Tensor) -> None:
        """Multiply every input channel."""
        groups, _, inputs = self.magnitudes.shape
        self.magnitudes.mul_(factors.view(groups, 1, inputs))


def _even_factors(model: nn.Module, pairs: tuple[Pair, ...]) -> list[Tensor]:
    """What each pair's channels are divided by; a chain's pairs are gone over until they agree."""
    names = {name for pair in pairs for name in (pair.first, pair.second)}
    ranges = {name: _Ranges.of(_layer(model, name)) for name in names}
    for pair in pairs:
        if pair.norm is not None:
            ranges[pair.first].scale_rows(_gain(pair.norm))
    factors = [torch.ones_like(ranges[pair.first].rows()) for pair in pairs]
    for _ in range(SWEEPS):
        largest = 0.0
        for i, pair in enumerate(pairs):
            first, second = ranges[pair.first], ranges[pair.second]
            given, read = first.rows(), second.columns().view(-1, pair.positions).amax(1)
            usable = (given > 0) & (read > 0)
            wanted = torch.where(usable, factors[i] * (given / read).sqrt(), factors[i])
            change = wanted.clamp(1 / BOUND, BOUND) / factors[i]
            factors[i] = factors[i] * change
            first.scale_rows(1 / change)
            second.scale_columns(change.repeat_interleave(pair.positions))
            largest = max(largest, float(change.log().abs().max()))
        if largest < SETTLED:
            break
    return factors


def _scale(model: nn.Module, pair: Pair, factors: Tensor) -> None:
    """Divide the channels between the two layers by the factors."""
    first, second = _layer(model, pair.first), _layer(model, pair.second)
    factors = _fitting(factors, first.weight.dtype)
    _multiply_columns(second, factors.repeat_interleave(pair.positions))
    if pair.norm is None:
        _multiply_rows(first, 1 / factors)
        return
    norm = pair.norm
    _multiply(norm.bias, 1 / factors)
    rows = _fitting(_relative(_gain(norm) / factors), first.weight.dtype)
    was = norm.variance.double() + norm.eps
    _multiply_rows(first, rows)
    _multiply(norm.mean, rows)
    _multiply(norm.variance, rows**2)
    spread = ((norm.variance.double() + norm.eps) / was).sqrt()
    _multiply(norm.weight, spread / (rows * factors))


def _fitting(factors: Tensor, dtype: torch.dtype) -> Tensor:
    """The factors, or powers of two near them for types that they would round."""
    return factors if torch.finfo(dtype).bits >= 32 else torch.exp2(factors.log2().round())


def _relative(gains: Tensor) -> Tensor:
    """Gains over their geometric mean; 1 for channels that are off."""
    on = gains > 0
    if not bool(on.any()):
        return torch.ones_like(gains)
    relative = gains / gains[on].log().mean().exp()
    return torch.where(on, relative, 1).clamp(1 / BOUND, BOUND)


def _gain(norm: Norm) -> Tensor:
    weight, variance = norm.weight.detach().double(), norm.variance.double()
    return weight.abs() / (variance + norm.eps).sqrt()


def _layer(model: nn.Module, name: str) -> Layer:
    layer = model.get_submodule(name)
    assert isinstance(layer, Layer)
    return layer


def _groups(layer: Layer) -> int:
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def _multiply(tensor: Tensor, factors: Tensor) -> None:
    shape = (-1, *[1] * (tensor.dim() - 1))
    tensor.copy_(tensor.double() * factors.view(shape))


def _multiply_rows(layer: Layer, factors: Tensor) -> None:
    _multiply(layer.weight, factors)
    if layer.bias is not None:
        _multiply(layer.bias, factors)


def _multiply_columns(layer: Layer, factors: Tensor) -> None:
    weight, groups = layer.weight, _groups(layer)
    grouped = weight.double().view(groups, -1, *weight.shape[1:])
    shape = (groups, 1, weight.shape[1], *[1] * (weight.dim() - 2))
    weight.copy_((grouped * factors.view(shape)).view(weight.shape))


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _outputs(model: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor]:
    with eval_mode(model):
        return tensors_in(model(*moved(example, device_of(model))))


def _close(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether outputs agree to what their type can tell apart."""
    for old, new in zip(before, after, strict=True):
        if not old.is_floating_point():
            continue
        allowed = min(1000 * torch.finfo(old.dtype).eps, 0.05) * float(old.abs().max())
        if not bool(((old.double() - new.double()).abs() <= allowed).all()):
            return False
    return True
