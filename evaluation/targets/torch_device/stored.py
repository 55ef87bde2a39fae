"""Weights that are kept small and are float numbers when their layer computes.

Integers of 8 bits as they are, those of 4 bits and less two in a byte, with groups and zero
points; e4m3 and e5m2 as torch's own 8-bit float numbers. Whoever opens a program may compute such
a weight once and keep it. Knows nothing of how programs are exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressors.quantization.layers import LayerQuantization, StoredWeight

FLOATS = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


class SmallWeight(nn.Module):
    """A weight, computed from what is stored."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    smoothing: Tensor | None

    def __init__(self, facts: LayerQuantization) -> None:
        super().__init__()
        assert facts.stored is not None
        stored = facts.stored
        self.shape, self.axis, self.group = stored.shape, stored.axis, stored.group
        self.columns = stored.codes.shape[1]
        small = FLOATS.get(facts.function or "")
        self.packed = stored.bits <= 4 and small is None
        codes = _integers(stored) if small is None else levels(stored).to(small)
        zeros = None if stored.zeros is None else stored.zeros.to(torch.uint8)
        smoothing = facts.smoothing
        self.register_buffer("codes", _pairs(codes) if self.packed else codes)
        self.register_buffer("scales", stored.scales.float())
        self.register_buffer("zeros", zeros)
        self.register_buffer("smoothing", None if smoothing is None else smoothing.float())

    def follow(self, factor: Tensor) -> None:
        """Multiply each output channel."""
        self.scales = (self.scales.double() * factor[:, None]).float()

    def forward(self) -> Tensor:
        """The weight."""
        codes = self.codes
        if self.packed:
            codes = torch.stack([codes & 15, codes >> 4], 2).flatten(1)
        values = codes[:, : self.columns].float()
        if self.zeros is not None:
            values = values - self._spread(self.zeros.float())
        values = values * self._spread(self.scales)
        moved = (self.shape[self.axis], *self.shape[: self.axis], *self.shape[self.axis + 1 :])
        weight = values.reshape(moved).movedim(0, self.axis)
        return weight if self.smoothing is None else weight / self.smoothing

    def _spread(self, table: Tensor) -> Tensor:
        """One number for each column."""
        if table.shape[1] == 1:
            return table
        return table.repeat_interleave(self.group, 1)[:, : self.columns]


def store(layer: nn.Module, facts: LayerQuantization) -> None:
    """Have a layer compute its weight from a small one, in place."""
    del layer._parameters["weight"]
    layer.add_module("small", SmallWeight(facts))
    kind = type(layer)
    weight = property(lambda self: self.small())
    layer.__class__ = type(kind.__name__, (kind,), {"weight": weight})


def _integers(stored: StoredWeight) -> Tensor:
    codes = stored.codes
    if stored.alive is not None:  # what was set to zero
        assert stored.zeros is not None
        place = torch.arange(codes.shape[1]) // stored.group
        codes = torch.where(stored.alive, codes, stored.zeros[:, place])
    return codes.to(torch.uint8)


def levels(stored: StoredWeight) -> Tensor:
    """The levels of a weight's codes, in rows."""
    assert stored.levels is not None
    found = stored.levels[0][stored.codes.long()]
    return found if stored.alive is None else found * stored.alive


def _pairs(codes: Tensor) -> Tensor:
    even = nn.functional.pad(codes, (0, codes.shape[1] % 2))
    return even[:, ::2] | even[:, 1::2] << 4
