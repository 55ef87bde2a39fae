"""What of a model can be compressed: layers, channel groups, removable blocks, attentions.

Plain data; `inspection` finds it from a live model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compressors.record import LayerKind


@dataclass(frozen=True)
class Layer:
    """A layer with a weight, by module path, in order of execution.

    An embedding's input channels are the rows of its table.
    """

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]  # () for linear and embedding
    groups: int
    parameters: int
    macs: int  # for one sample


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels live and die together, named by the first that runs.

    `readers` are the layers whose inputs go with them; `bundle` is how many channels have to go
    at once, more than one where a convolution in groups writes or reads them. Groups that hold a
    model output are not listed: their channels are the answer.
    """

    root: str
    channels: int
    members: tuple[str, ...]
    readers: tuple[str, ...] = ()
    bundle: int = 1


@dataclass(frozen=True)
class Attention:
    """A multi-head attention whose heads can be removed: its module and its four layers.

    Two or all of the query, key and value layers may be one (packed: their outputs one after
    another, in this order). `counts` and `sizes` are the integers, by path, that follow the
    number of heads and the values of all heads together: attributes that the module's code reads.
    """

    name: str
    heads: int
    query: str
    key: str
    value: str
    output: str
    counts: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()

    def packed(self) -> dict[str, int]:
        """The layers that heads are rows of, with how many of the three each of them is."""
        return dict(Counter((self.query, self.key, self.value)))


@dataclass(frozen=True)
class Block:
    """A module that gives out what it takes in and something more: without it the rest runs.

    `outputs` is None where it returns a tensor, or the length of the tuple that it returns, in
    which the tensor is first.
    """

    name: str
    layers: tuple[str, ...]
    outputs: int | None = None


@dataclass(frozen=True)
class Structure:
    """Everything a space can be built from and a policy checked against."""

    layers: tuple[Layer, ...]
    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]
    attentions: tuple[Attention, ...] = ()

    def layer(self, name: str) -> Layer | None:
        """The layer of that name, if there is one."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def group_of(self, name: str) -> ChannelGroup | None:
        """The channel group that a layer belongs to, if its channels may be removed."""
        return next((group for group in self.groups if name in group.members), None)
