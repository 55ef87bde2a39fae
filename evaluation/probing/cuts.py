"""A layer that lost channels, seen as the layer that it was with zeros for the inputs it lost.

Which channels stayed is read off the weights: a cut weight is a part of the original, its rows and
columns in their old order. Where it is not (fitted anew, or rounded besides) nothing is said.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def as_zeros(weight: Tensor, layer: Any) -> Tensor | None:
    """The weight in the shape of the layer's own; None where what was cut cannot be told.

    Outputs that left are as they were: nobody reads them.
    """
    original: Tensor = layer.weight.detach()
    if weight.shape == original.shape:
        return weight
    if weight.dim() != original.dim():
        return None
    axis = 0 if isinstance(layer, nn.ConvTranspose2d | nn.Embedding) else 1
    kept = kept_inputs(_by_inputs(weight, axis), _by_inputs(original, axis))
    if kept is None:
        return None
    gone = sorted(set(range(original.shape[axis])) - set(kept))
    found = original.clone()
    found.movedim(axis, 0)[gone] = 0
    return found


def kept_inputs(part: Tensor, whole: Tensor) -> list[int] | None:
    """Which inputs of the whole a part of it has; both are inputs x outputs x the rest."""
    if part.shape[1] == whole.shape[1]:
        return places(part.flatten(1), whole.flatten(1))
    for row in whole:
        outputs = places(part[0], row)  # the part's first input may be this one
        if outputs is not None:
            inputs = places(part.flatten(1), whole[:, outputs].flatten(1))
            if inputs is not None:
                return inputs
    return None


def places(part: Tensor, whole: Tensor) -> list[int] | None:
    """Where the rows of a part are among those of the whole, in order; None where they are not."""
    known: dict[bytes, list[int]] = {}
    for index, row in enumerate(_rows(whole)):
        known.setdefault(row, []).append(index)
    found: list[int] = []
    for row in _rows(part):
        candidates = known.get(row, [])
        next_one = bisect_left(candidates, found[-1] + 1 if found else 0)
        if next_one == len(candidates):
            return None
        found.append(candidates[next_one])
    return found


def _rows(tensor: Tensor) -> Iterator[bytes]:
    """The bytes of each row, of whatever type its numbers are."""
    plain = tensor.detach().cpu().contiguous().flatten(1)
    return (row.tobytes() for row in plain.view(torch.uint8).numpy())


def _by_inputs(weight: Tensor, axis: int) -> Tensor:
    moved = weight.movedim(axis, 0)
    return moved.reshape(*moved.shape[:2], -1)
