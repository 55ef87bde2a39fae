"""SmoothQuant's factors: how far each input feature of a linear layer is scaled down.

Dividing a feature by its factor and multiplying the weight's column with it changes no output,
and moves outliers of activations, which share one scale, into weights. Knows no layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOUND = 1e5  # factors lie between 1 / BOUND and BOUND


def smoothing_factors(weight: Tensor, input_magnitudes: Tensor, alpha: float) -> Tensor:
    """Of every input feature max|x|^alpha / max|w|^(1 - alpha), positive and finite.

    `weight` is out x in, `input_magnitudes` the largest magnitude seen of each feature. A feature
    that is always 0, or that no weight reads, has the factor 1.
    """
    columns = weight.detach().float().abs().amax(dim=0)
    inputs = input_magnitudes.detach().to(columns.device, columns.dtype).abs()
    factors = torch.exp(alpha * inputs.log() - (1 - alpha) * columns.log())
    used = (columns > 0) & (inputs > 0) & columns.isfinite() & inputs.isfinite()
    return torch.where(used, factors, 1).clamp(1 / BOUND, BOUND)
