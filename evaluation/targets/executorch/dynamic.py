"""Linear layers whose input is rounded by the range that the kernel finds in it, row by row.

The simulation finds one range for the whole input, so that the two agree where a sample has one
row; of many rows, the kernel's rounding is the finer one. Weights are of 8 or 4 bits, with a scale
a channel or, of 4 bits, a group. Knows nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compressors.errors import UserError
from compressors.quantization.layers import LayerQuantization

SMALLEST_SCALE = 1e-30


@dataclass(frozen=True)
class DynamicLayer:
    """What the kernel computes with, beside its input and its bias, which are floats."""

    name: str
    weights: Tensor  # int8
    weight_scales: Tensor  # float32, one an output channel, or channels x groups
    bits: int
    group: int | None

    def values(self) -> Tensor:
        """The weights as floats."""
        scales = self.weight_scales.view(len(self.weights), -1)
        return self.weights * scales.repeat_interleave(self.group or self.weights.shape[1], 1)


def check_groups(described: Mapping[str, LayerQuantization]) -> None:
    """Raise for a layer whose inputs are no whole number of groups."""
    for name, facts in described.items():
        inputs = facts.stored.codes.shape[1] if facts.stored else 0
        if facts.group and facts.stored and inputs % facts.stored.group:
            raise UserError(
                f"XNNPACK has no kernel for groups of {facts.group} in layer '{name}', whose "
                f"{inputs} inputs they do not divide; valid: granularity channel."
            )


def dynamic_layer(name: str, facts: LayerQuantization, factor: Tensor | None) -> DynamicLayer:
    """The layer, its integers and scales multiplied with what a batch norm left in them."""
    assert facts.weight_bits is not None
    integers, scales = _integers(facts)
    group = facts.group if scales.shape[1] > 1 else None
    if factor is not None:
        integers, scales = integers * factor.sign()[:, None], scales * factor.abs()[:, None]
    scales = scales.clamp(min=SMALLEST_SCALE).float()
    scales = scales[:, 0] if group is None else scales
    return DynamicLayer(name, integers.to(torch.int8), scales, facts.weight_bits, group)


def _integers(facts: LayerQuantization) -> tuple[Tensor, Tensor]:
    """Channels x inputs, and scales in as many columns as there are groups."""
    stored = facts.stored
    assert stored is not None
    assert stored.zeros is not None
    place = torch.arange(stored.codes.shape[1]) // stored.group
    integers = (stored.codes - stored.zeros[:, place]).double()
    if stored.alive is not None:
        integers = integers * stored.alive
    return integers, stored.scales.double().expand(len(integers), -1)
