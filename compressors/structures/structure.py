"""What of a model can be compressed: its layers, its channel groups, its removable blocks.

Plain data; `inspection` finds it from a live model.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressors.record import LayerKind


@dataclass(frozen=True)
class Layer:
    """A Linear or Conv2d, by module path, in order of execution."""

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]  # (1, 1) for linear
    groups: int
    parameters: int
    macs: int  # for one sample


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels live and die together, named by the first that runs.

    Groups that hold a model output are not listed: their channels are the answer.
    """

    root: str
    channels: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A module with one tensor in and one of equal shape out, around which a residual runs."""

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """Everything a space can be built from and a policy checked against."""

    layers: tuple[Layer, ...]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]

    def layer(self, name: str) -> Layer | None:
        """The layer of that name, if there is one."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def group_of(self, name: str) -> ChannelGroup | None:
        """The channel group that a layer belongs to, if its channels may be removed."""
        return next((group for group in self.groups if name in group.members), None)
