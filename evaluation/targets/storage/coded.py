"""Weights as codes of a few bits, and the float weights that the codes stand for.

Codes lie in rows, one an output channel. Every `group` codes of a row share a scale (and a zero
point, or a codebook), or all of a row do, or all rows do: `scales` has a row for each or one for
all, and a column a group. Knows nothing of files, models or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.targets.storage.bits import Array


@dataclass(frozen=True)
class Coded:
    """A weight: levels[code] * scale, or (code - zero) * scale where there are no levels.

    `levels` has one row for all scales, or one for each. Afterwards each row is multiplied by its
    factor, which a folded batch norm leaves.
    """

    shape: tuple[int, ...]  # of the weight as the torch layer has it
    axis: int  # the one of its output channels
    bits: int
    codes: Array  # whole numbers, rows x the rest
    scales: Array  # float32, (rows or 1) x groups
    group: int  # codes of a row that share a scale
    zeros: Array | None = None  # shaped as the scales
    levels: Array | None = None  # float32, (scales or 1) x up to 2^bits
    alive: Array | None = None  # bool, shaped as the codes; what is not is 0; None: all are
    factors: Array | None = None  # float32, one a row


def decode(coded: Coded) -> Array:
    """The weight in float32, shaped as the torch layer has it."""
    rows, columns = coded.codes.shape
    place = np.arange(columns) // coded.group
    scales = np.broadcast_to(coded.scales, (rows, coded.scales.shape[1]))[:, place]
    if coded.levels is not None:
        values = _levels(coded, place)
    else:
        assert coded.zeros is not None
        zeros = np.broadcast_to(coded.zeros, (rows, coded.zeros.shape[1]))[:, place]
        values = (coded.codes.astype(np.int32) - zeros.astype(np.int32)).astype(np.float32)
    values = values * scales
    if coded.alive is not None:
        values = np.where(coded.alive, values, np.float32(0))
    if coded.factors is not None:
        values = values * coded.factors[:, None]
    return from_rows(values, coded.shape, coded.axis)


def _levels(coded: Coded, place: Array) -> Array:
    assert coded.levels is not None
    if len(coded.levels) == 1:
        return np.asarray(coded.levels[0][coded.codes])
    many, groups = coded.scales.shape
    row = np.arange(many)[:, None] * groups + place  # which scale, so which levels
    return np.asarray(coded.levels[np.broadcast_to(row, coded.codes.shape), coded.codes])


def to_rows(weight: Array, axis: int) -> Array:
    """A weight with a row for each output channel."""
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def from_rows(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The weight that `to_rows` laid out."""
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))
