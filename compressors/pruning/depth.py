"""Depth: whole blocks leave the model; their input goes on in place of their output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from compressors.modules import replace
from compressors.structures.attention import keep_plain
from compressors.structures.skip import Skip
from compressors.structures.structure import Structure


def remove_blocks(model: nn.Module, names: Iterable[str], structure: Structure) -> None:
    """Put an identity in the place of each block, in place; the structure lists the blocks."""
    blocks = {block.name: block for block in structure.blocks}
    for name in names:
        replace(model, name, Skip(model.get_submodule(name), blocks[name].outputs))
        keep_plain(model)
