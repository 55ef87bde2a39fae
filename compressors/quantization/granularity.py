"""Which elements of a weight share a scale: all, those of an output channel, or so many inputs.

A layout lays a weight open so that every set that shares a scale can be reduced and multiplied at
once: as it is, where a scale for each output channel (or one in all) broadcasts, or as rows with
one set each. A group that the inputs do not fill is padded with zeros, which `alive` tells apart.
Knows no number formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.policies.steps import Granularity


@dataclass(frozen=True)
class Layout:
    """Where the elements of one weight belong."""

    shape: tuple[int, ...]
    axis: int  # of the output channels (of a table: its rows)
    granularity: Granularity
    group: int  # columns that share a scale, with granularity group
    flat: bool = False  # always lay open as rows

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.shape[self.axis]

    @property
    def columns(self) -> int:
        """Weights of an output channel."""
        return prod(self.shape) // max(self.channels, 1)

    @property
    def width(self) -> int:
        """Columns of a channel that share a scale."""
        grouped = self.granularity == "group"
        return max(1, min(self.group, self.columns) if grouped else self.columns)

    @property
    def groups(self) -> int:
        """Scales of a channel (where channels have their own)."""
        return -(-self.columns // self.width)

    @property
    def sets(self) -> int:
        """Scales in all."""
        return 1 if self.granularity == "tensor" else self.channels * self.groups

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of the open layout that a scale reaches over."""
        if self._as_rows:
            return (1,)
        every = range(len(self.shape))
        return tuple(d for d in every if self.granularity == "tensor" or d != self.axis)

    @property
    def _as_rows(self) -> bool:
        return self.flat or self.granularity == "group"

    def open(self, weight: Tensor) -> Tensor:
        """The weight so that `spread` scales fit it."""
        return self.rows(weight) if self._as_rows else weight

    def close(self, opened: Tensor) -> Tensor:
        """The weight that was laid open."""
        if not self._as_rows:
            return opened
        matrix = opened.reshape(self.channels, -1)[:, : self.columns]
        return self.from_matrix(matrix)

    def spread(self, values: Tensor) -> Tensor:
        """One value a set, so that it meets its set in the open layout."""
        if self._as_rows:
            return values.reshape(-1, 1)
        shape = [1] * len(self.shape)
        if self.granularity == "channel":
            shape[self.axis] = self.channels
        return values.reshape(shape)

    def rows(self, weight: Tensor) -> Tensor:
        """The weight with a row for every set."""
        if self.granularity == "tensor":
            return weight.reshape(1, -1)
        matrix = self.matrix(weight)
        missing = self.groups * self.width - self.columns
        padded = F.pad(matrix, (0, missing)) if missing else matrix
        return padded.reshape(self.sets, self.width)

    def alive(self, mask: Tensor | None, device: torch.device) -> Tensor | None:
        """Which elements of the rows are weights that count; None: all."""
        padded = self.granularity == "group" and self.groups * self.width != self.columns
        if mask is None and not padded:
            return None
        given = torch.ones(self.shape, device=device) if mask is None else mask.to(device).float()
        return self.rows(given) > 0

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as output channels x the rest."""
        return weight.movedim(self.axis, 0).reshape(self.channels, -1)

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The weight again."""
        moved = (self.channels, *self.shape[: self.axis], *self.shape[self.axis + 1 :])
        return matrix.reshape(moved).movedim(0, self.axis)

    def over_matrix(self, values: Tensor) -> Tensor:
        """One value a set, for every element of the matrix."""
        if self.granularity == "tensor":
            return values.reshape(1, 1).expand(self.channels, self.columns)
        wide = values.reshape(self.channels, self.groups, 1).expand(-1, -1, self.width)
        return wide.reshape(self.channels, -1)[:, : self.columns]


def layout_of(
    layer: nn.Module, granularity: Granularity, group: int, *, flat: bool = False
) -> Layout:
    """The layout of a layer's weight."""
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return Layout(tuple(weight.shape), axis, granularity, group, flat)
