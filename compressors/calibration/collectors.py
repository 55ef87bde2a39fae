"""Watchers of one layer's inputs, batch by batch: moments, second moments, histograms.

Features are the last dimension of what a linear layer reads and the channels of what a
convolution reads, before its positions, with or without a batch. Sums are in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.errors import UserError

BINS = 2048


class Collector(Protocol):
    """Sees inputs, and sums them up."""

    def see(self, x: Tensor) -> None:
        """One call's input."""
        ...

    def result(self) -> dict[str, Tensor]:
        """What was seen, as named tensors."""
        ...


@dataclass(frozen=True)
class Inputs:
    """Of every input feature: extremes, mean, mean magnitude, mean square, share of zeros."""

    low: Tensor
    high: Tensor
    mean: Tensor
    magnitude: Tensor
    square: Tensor
    zeros: Tensor


@dataclass(frozen=True)
class Histogram:
    """Counts in equal bins between the least and the largest value seen, themselves included."""

    counts: Tensor
    bounds: Tensor  # low, high

    @property
    def low(self) -> float:
        """The least value seen."""
        return float(self.bounds[0])

    @property
    def high(self) -> float:
        """The largest value seen."""
        return float(self.bounds[1])

    def centres(self) -> Tensor:
        """The middles of the bins."""
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (torch.arange(len(self.counts), dtype=torch.float64) + 0.5)


class Moments:
    """`Inputs`, of features that so many dimensions (of positions) come after."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._sums: Tensor | None = None
        self._extremes: Tensor | None = None
        self._count = 0

    def see(self, x: Tensor) -> None:
        """One call's input."""
        x = x.movedim(-1 - self._positions, -1)
        rows = x.reshape(-1, x.shape[-1]).double()
        sums = torch.stack(
            [rows.sum(0), rows.abs().sum(0), rows.square().sum(0), (rows == 0).sum(0).double()]
        )
        extremes = torch.stack([rows.amin(0), rows.amax(0)])
        self._count += len(rows)
        if self._sums is None or self._extremes is None:
            self._sums, self._extremes = sums, extremes
            return
        self._sums += sums
        self._extremes[0] = torch.minimum(self._extremes[0], extremes[0])
        self._extremes[1] = torch.maximum(self._extremes[1], extremes[1])

    def result(self) -> dict[str, Tensor]:
        """The fields of `Inputs`."""
        if self._sums is None or self._extremes is None:
            raise RuntimeError("A layer whose inputs were asked for did not run.")
        mean, magnitude, square, zeros = (self._sums / self._count).float().cpu()
        low, high = self._extremes.float().cpu()
        names = ("low", "high", "mean", "magnitude", "square", "zeros")
        return dict(zip(names, (low, high, mean, magnitude, square, zeros), strict=True))


class Counts:
    """A histogram of all values between two bounds."""

    def __init__(self, low: float, high: float) -> None:
        self._bounds = (low, high)
        self._counts = torch.zeros(BINS, dtype=torch.float64)

    def see(self, x: Tensor) -> None:
        """One call's input."""
        low, high = self._bounds
        if high > low:
            self._counts += torch.histc(x.float().flatten().cpu(), BINS, low, high).double()

    def result(self) -> dict[str, Tensor]:
        """The fields of `Histogram`."""
        return {"counts": self._counts, "bounds": torch.tensor(self._bounds, dtype=torch.float64)}


class Gram:
    """The mean of x x^T over all the vectors that a row of the weight matrix is multiplied with."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._sum: Tensor | None = None
        self._count = 0

    def see(self, x: Tensor) -> None:
        """One call's input."""
        vectors = columns(self._layer, x)  # groups x vectors x d
        product = (vectors.transpose(1, 2) @ vectors).double()
        self._sum = product if self._sum is None else self._sum + product
        self._count += vectors.shape[1]

    def result(self) -> dict[str, Tensor]:
        """The mean, as groups x d x d."""
        if self._sum is None:
            raise RuntimeError("A layer whose inputs were asked for did not run.")
        return {"gram": (self._sum / self._count).float().cpu()}


def finite(tensors: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    """The statistics of a layer, refused where anything in them is no finite number."""
    if all(bool(values.isfinite().all()) for values in tensors.values()):
        return tensors
    raise UserError(
        f"On the calibration split, layer '{layer}' meets values that are not finite (NaN, infinite"
        " or too large to sum up); mend the samples of that split, or the model."
    )


def columns(layer: nn.Module, x: Tensor) -> Tensor:
    """The vectors that the rows of a layer's weight matrix meet: groups x vectors x d."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1]).float()
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    x = _padded(layer, x if x.dim() == layer.weight.dim() else x.unsqueeze(0))
    if isinstance(layer, nn.Conv1d):
        x = x.unsqueeze(-2)
    flat = isinstance(layer, nn.Conv1d)
    kernel, stride, dilation = (
        (1, *values) if flat else tuple(values)
        for values in (layer.kernel_size, layer.stride, layer.dilation)
    )
    patches = F.unfold(x.float(), kernel, dilation=dilation, stride=stride)  # n x (c k) x positions
    n, rows, positions = patches.shape
    patches = patches.view(n, layer.groups, rows // layer.groups, positions)
    return patches.permute(1, 0, 3, 2).reshape(layer.groups, n * positions, -1)


def _padded(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """The input with the layer's own padding around it."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, list(layer._reversed_padding_repeated_twice), mode=mode)
