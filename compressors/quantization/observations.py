"""What the fits of quantised layers take from calibration, asked for in as few passes as can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressors.calibration.collectors import Histogram, Inputs
from compressors.calibration.statistics import Statistics
from compressors.policies.steps import Quantize


@dataclass(frozen=True)
class Observations:
    """By layer, what was seen of its inputs (ranges: of inputs as they are rounded)."""

    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    ranges: Mapping[str, Inputs] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    grams: Mapping[str, Tensor] = field(default_factory=dict)


class Divided(nn.Module):
    """Inputs divided by one factor a feature."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, x: Tensor) -> Tensor:
        """The inputs as a smoothed layer rounds them."""
        return x / torch.as_tensor(self.factors).to(x.dtype)


def observe(
    asked: Mapping[str, Quantize], factors: Mapping[str, Tensor], statistics: Statistics
) -> Observations:
    """Everything that these settings need."""
    rounded = {name: name for name in asked}
    for name, factor in factors.items():
        rounded[name] = f"{name} divided"
        statistics.derive(rounded[name], name, Divided(factor))
    fixed = [n for n, e in asked.items() if e.activations is not None and not e.dynamic]
    fine = [name for name in fixed if asked[name].ranges != "minmax"]
    corrected = [n for n, e in asked.items() if e.bias_correction and e.weights is not None]
    aware = [name for name, entry in asked.items() if entry.rounding != "nearest"]
    histograms = statistics.histograms([rounded[name] for name in fine]) if fine else {}
    names = dict.fromkeys((*(rounded[name] for name in fixed), *corrected))
    inputs = statistics.inputs(list(names)) if names else {}
    return Observations(
        {name: inputs[name] for name in corrected},
        {name: inputs[rounded[name]] for name in fixed},
        {name: histograms[rounded[name]] for name in fine},
        statistics.grams(aware) if aware else {},
    )
