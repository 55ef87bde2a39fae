"""How far one set of numbers lies from another, as a share of the other's size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Departure:
    """Of exported numbers from simulated ones; infinite where one is none, or shapes differ."""

    norm: float  # of the difference, as a share of the simulated norm
    largest: float  # difference, as a share of the largest simulated size

    def beyond(self, tolerance: float) -> bool:
        """Whether the difference as a whole is larger than allowed."""
        return self.norm > tolerance


NOWHERE = Departure(math.inf, math.inf)


def departure(pairs: Iterable[tuple[Tensor, Tensor]]) -> Departure:
    """From pairs of simulated and exported tensors, all taken together."""
    square = size = largest = most = 0.0
    for simulated, exported in pairs:
        if simulated.shape != exported.shape:
            return NOWHERE
        if simulated.numel() == 0:
            continue
        truth = simulated.detach().cpu().to(torch.float64)
        gap = exported.detach().cpu().to(torch.float64) - truth
        if not torch.isfinite(gap).all():
            return NOWHERE
        square += float(gap.square().sum())
        size += float(truth.square().sum())
        largest = max(largest, float(gap.abs().max()))
        most = max(most, float(truth.abs().max()))
    return Departure(_share(math.sqrt(square), math.sqrt(size)), _share(largest, most))


def _share(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole else math.inf
