"""Depth: whole residual blocks leave the model; their input goes on in place of their output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from compressors.modules import replace


def remove_blocks(model: nn.Module, names: Iterable[str]) -> None:
    """Put an identity in the place of each block, in place."""
    for name in names:
        replace(model, name, nn.Identity())
