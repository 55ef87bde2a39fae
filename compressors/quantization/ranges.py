"""Where a quantiser's range ends: found on weights at once, on activations by watching batches.

minmax takes everything seen; percentile leaves out the outermost thousandth; mse takes the range
of least squared rounding error. Activations are watched with the weights already rounded and the
activations not. Knows quantisers, and nothing of how layers hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressors.data import Batch
from compressors.modules import device_of, eval_mode, moved
from compressors.policies.steps import Ranges
from compressors.quantization.quantizers import InputQuantizer, WeightQuantizer

OUTSIDE = 1e-3  # the share that percentile leaves out
SHARES = tuple(i / 40 for i in range(8, 41))  # of the full range, that mse tries
BINS = 2048


@dataclass(frozen=True)
class Watched:
    """An activation quantiser, and how its range is to be found."""

    quantizer: InputQuantizer
    ranges: Ranges


class _Extremes:
    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0

    def see(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))


class _Histogram:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def see(self, x: Tensor) -> None:
        values = x.float().flatten().cpu()
        self.counts += torch.histc(values, BINS, self.low, self.high).double()

    def centres(self) -> Tensor:
        width = (self.high - self.low) / BINS
        return self.low + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)


def fit_weights(quantizer: WeightQuantizer, weight: Tensor, ranges: Ranges) -> None:
    """Fix which share of each channel's largest magnitude the grid covers."""
    magnitudes = weight.detach().flatten(1).abs()
    quantizer.shrink.fill_(1.0)
    if ranges == "percentile":
        inner = torch.quantile(magnitudes.double(), 1 - OUTSIDE, dim=1).to(weight.dtype)
        largest = magnitudes.amax(dim=1).clamp(min=1e-30)
        quantizer.shrink.copy_((inner / largest).clamp(min=SHARES[0]))
    elif ranges == "mse":
        quantizer.shrink.copy_(_least_error_shares(quantizer, weight.detach()))


@torch.no_grad()
def _least_error_shares(quantizer: WeightQuantizer, weight: Tensor) -> Tensor:
    errors = []
    for share in SHARES:
        quantizer.shrink.fill_(share)
        errors.append((quantizer(weight) - weight).flatten(1).pow(2).sum(dim=1))
    best = torch.stack(errors).argmin(dim=0)
    return torch.tensor(SHARES, dtype=weight.dtype, device=weight.device)[best]


@torch.no_grad()
def fit_activations(model: nn.Module, watched: Sequence[Watched], batches: Iterable[Batch]) -> None:
    """Run the batches and fix every watched quantiser's range."""
    kept = list(batches)
    extremes = [_Extremes() for _ in watched]
    _run(model, watched, extremes, kept)
    for item, seen in zip(watched, extremes, strict=True):
        item.quantizer.set_range(seen.low, seen.high)
    fine = [
        (item, _Histogram(seen.low, seen.high))
        for item, seen in zip(watched, extremes, strict=True)
        if item.ranges != "minmax" and seen.high > seen.low
    ]
    if fine:
        _run(model, watched, [dict(_pairs(fine)).get(id(item)) for item in watched], kept)
        for item, histogram in fine:
            item.quantizer.set_range(*_best_range(item, histogram))


def _pairs(fine: list[tuple[Watched, _Histogram]]) -> list[tuple[int, _Histogram]]:
    return [(id(item), histogram) for item, histogram in fine]


class _Blind:
    def see(self, x: Tensor) -> None:
        """Let the activations pass unseen, and unrounded."""


def _run(
    model: nn.Module, watched: Sequence[Watched], observers: Sequence[Any], batches: list[Batch]
) -> None:
    for item, observer in zip(watched, observers, strict=True):
        item.quantizer.observer = observer or _Blind()
    try:
        with eval_mode(model):
            for batch in batches:
                model(*moved(batch.args, device_of(model)))
    finally:
        for item in watched:
            item.quantizer.observer = None


def _best_range(item: Watched, seen: _Histogram) -> tuple[float, float]:
    if item.ranges == "percentile":
        return _percentile(seen)
    highest, centres = item.quantizer.highest, seen.centres()
    errors = []
    for share in SHARES:
        low, high = min(seen.low * share, 0.0), max(seen.high * share, 0.0)
        scale = (high - low) / highest
        zero = round(-low / scale)
        rounded = (centres / scale).round().clamp(-zero, highest - zero) * scale
        errors.append(float(((rounded - centres) ** 2 * seen.counts).sum()))
    best = SHARES[errors.index(min(errors))]
    return seen.low * best, seen.high * best


def _percentile(seen: _Histogram) -> tuple[float, float]:
    below = seen.counts.cumsum(0) / seen.counts.sum()
    inside = (below >= OUTSIDE / 2) & (below - seen.counts / seen.counts.sum() <= 1 - OUTSIDE / 2)
    centres = seen.centres()[inside]
    return float(centres[0]), float(centres[-1])
