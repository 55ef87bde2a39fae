"""Depth: whole residual blocks leave the model; their input goes on in place of their output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from compressors.modules import replace


class Skip(nn.Module):
    """An identity that may be called with whatever else the block took (a mask, say)."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """The block's input."""
        return x


def remove_blocks(model: nn.Module, names: Iterable[str]) -> None:
    """Put an identity in the place of each block, in place."""
    for name in names:
        replace(model, name, Skip())
