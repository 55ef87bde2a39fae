"""A quantised layer's weight as whole numbers, zero points and scales, as kernels want them.

Affine formats alone. What a batch norm left in the weights goes into the scales, its sign into
the whole numbers, so that (code - zero) * scale is what the graph computes with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.graph import Array


@dataclass(frozen=True)
class Codes:
    """Rows of codes, one an output channel; every `group` of a row share a scale and a zero."""

    shape: tuple[int, ...]  # of the weight as the torch layer has it
    axis: int  # the one of its output channels
    bits: int
    codes: Array  # from 0 to 2^bits - 1, rows x the rest
    zeros: Array  # int32, shaped as the scales
    scales: Array  # float32, (rows or 1) x groups
    group: int
    symmetric: bool  # all zeros are one number

    @staticmethod
    def of(facts: LayerQuantization, factors: Array | None) -> Codes:
        """Of a layer's description; factors are what folding multiplied each row with."""
        stored = facts.stored
        assert stored is not None
        assert stored.zeros is not None
        rows = len(stored.codes) if factors is not None else len(stored.scales)
        shape = (rows, stored.scales.shape[1])
        scales = np.broadcast_to(stored.scales.double().numpy(), shape)
        zeros = np.broadcast_to(stored.zeros.numpy().astype(np.int32), shape)
        place = np.arange(stored.codes.shape[1]) // stored.group
        codes = stored.codes.numpy().astype(np.int32)
        if stored.alive is not None:
            codes = np.where(stored.alive.numpy(), codes, zeros[:, place])
        if factors is not None:
            turned, most = factors[:, None] < 0, _most(stored.bits, facts.function)
            codes = np.where(turned, most - codes, codes)
            zeros = np.where(turned, most - zeros, zeros)
            scales = scales * np.abs(factors)[:, None]
        return Codes(
            stored.shape,
            stored.axis,
            stored.bits,
            codes.astype(np.uint8),
            np.ascontiguousarray(zeros),
            scales.astype(np.float32),
            stored.group,
            facts.function == "symmetric",
        )

    @property
    def rows(self) -> int:
        """Output channels."""
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        """Weights of an output channel."""
        return int(self.codes.shape[1])

    def values(self) -> Array:
        """The weight in float32, shaped as the torch layer has it."""
        place = np.arange(self.columns) // self.group
        units = self.codes.astype(np.int32) - self.zeros[:, place]
        rows = units.astype(np.float32) * self.scales[:, place]
        moved = (self.rows, *self.shape[: self.axis], *self.shape[self.axis + 1 :])
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))


def _most(bits: int, function: str | None) -> int:
    """The code that stands opposite to code 0."""
    return (1 << bits) - (2 if function == "symmetric" else 1)
