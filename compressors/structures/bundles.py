"""Which channels have to go together where a convolution in groups writes or reads them.

Such a convolution has as many channels in each of its groups; so what leaves is the same place of
every group at once. Knows indices, and nothing of how they were found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

Bundles = tuple[tuple[int, ...], ...]
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Side:
    """The inputs or the outputs of a module that go with channels of a root, index by index."""

    module: nn.Module
    reads: bool
    indices: Sequence[int]
    channels: Sequence[int]

    @property
    def groups(self) -> int:
        """The groups that have to stay of one size; 1 where each index can go on its own."""
        module = self.module
        if not isinstance(module, nn.modules.conv._ConvNd) or is_depthwise(module):
            return 1
        return module.groups

    @property
    def places(self) -> int:
        """How many indices each of the groups has."""
        module = self.module
        assert isinstance(module, nn.modules.conv._ConvNd)
        return (module.in_channels if self.reads else module.out_channels) // module.groups


def in_groups(module: nn.Module) -> bool:
    """Whether the module is a convolution of more than one group."""
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1


def is_depthwise(module: nn.Module) -> bool:
    """Whether each channel has a kernel of its own."""
    return in_groups(module) and module.groups == module.in_channels == module.out_channels


def bundles(count: int, sides: Iterable[Side]) -> Bundles | None:
    """The root's channels by what has to go together, in order; None where they cannot go alike.

    They cannot where a group of some convolution is in part another root's, where bundles would
    differ in size, and where a transposed convolution is in groups.
    """
    first = list(range(count))
    for side in sides:
        if side.groups == 1:
            continue
        if isinstance(side.module, _TRANSPOSED) or None in side.channels or not _whole(side):
            return None
        _unite(first, side)
    members: dict[int, list[int]] = {}
    for channel in range(count):
        members.setdefault(_find(first, channel), []).append(channel)
    found = tuple(tuple(channels) for channels in members.values())
    return found if len({len(channels) for channels in found}) == 1 else None


def _whole(side: Side) -> bool:
    """Whether a place that loses an index in one group can lose one in every group."""
    seen = Counter(index % side.places for index in set(side.indices))
    return set(seen.values()) == {side.groups}


def _unite(first: list[int], side: Side) -> None:
    at: dict[int, int] = {}
    for index, channel in zip(side.indices, side.channels, strict=True):
        one = _find(first, channel)
        other = _find(first, at.setdefault(index % side.places, channel))
        first[max(one, other)] = min(one, other)


def _find(first: list[int], channel: int) -> int:
    while first[channel] != channel:
        channel = first[channel]
    return channel
