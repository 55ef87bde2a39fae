"""Depth: whole blocks leave the model; their input goes on in place of their output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from compressors.modules import replace
from compressors.structures.blocks import Skip
from compressors.structures.structure import Structure


def remove_blocks(
    model: nn.Module, names: Iterable[str], structure: Structure | None = None
) -> None:
    """Put an identity in the place of each block, in place; the structure lists the blocks."""
    blocks = {block.name: block for block in structure.blocks} if structure else {}
    for name in names:
        replace(model, name, Skip(blocks[name].outputs if name in blocks else None))
