"""Channels that go together for a convolution in groups: which they are, and where none can go."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compressors.structures.bundles import Side, bundles
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import ChannelGroup

IMAGE = (torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0)),)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, groups=groups)


def reading(layer: nn.Module, indices: list[int], channels: list[int] | None = None) -> Side:
    return Side(layer, True, indices, indices if channels is None else channels)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_two_counts_of_groups_share_their_least_common_multiple(a: int, b: int, each: int) -> None:
    count = a * b * each
    everything = list(range(count))
    writer, reader = conv(2 * a, count, a), conv(count, 2 * b, b)  # none of them depthwise
    found = bundles(
        count, [Side(writer, False, everything, everything), reading(reader, everything)]
    )
    together = lcm(a, b)
    assert found is not None
    assert found == tuple(tuple(range(i, count, count // together)) for i in range(len(found)))
    assert {len(bundle) for bundle in found} == {together}
    for groups in (a, b):  # what a bundle takes, it takes alike of every group
        for bundle in found:
            taken = torch.tensor(bundle) // (count // groups)
            assert taken.bincount().tolist() == [together // groups] * groups


def test_a_flattened_group_goes_by_channel() -> None:
    """Four channels, two features of each: the groups of the reader are halves."""
    reader = nn.Conv1d(8, 2, 1, groups=2)
    found = bundles(4, [reading(reader, list(range(8)), [0, 0, 1, 1, 2, 2, 3, 3])])
    assert found == ((0, 2), (1, 3))


def test_what_is_beside_another_roots_channels_cannot_go() -> None:
    assert bundles(4, [reading(conv(8, 2, 2), [0, 1, 2, 3])]) is None
    assert bundles(4, [reading(conv(6, 2, 2), [0, 1, 2, 3])]) is None
    assert bundles(4, [reading(conv(8, 2, 2), [0, 1, 4, 5], [0, 1, 2, 3])]) == ((0, 2), (1, 3))


def test_depthwise_and_single_groups_ask_for_nothing() -> None:
    everything = [0, 1, 2]
    assert bundles(3, [reading(conv(3, 3, 3), everything)]) == ((0,), (1,), (2,))
    assert bundles(3, [reading(conv(3, 5), everything), reading(nn.Linear(3, 3), everything)])
    assert bundles(3, [reading(conv(3, 6, 3), everything)]) == ((0, 1, 2),)


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n, groups, channels // groups, height, width)
    return x.transpose(1, 2).reshape(n, channels, height, width)


class Net(nn.Module):
    """Three layers in a row, with something in between, and an answer."""

    def __init__(
        self, *layers: nn.Module, between: Callable[[Tensor], Tensor] = torch.relu
    ) -> None:
        super().__init__()
        self.layers, self.between = nn.ModuleList(layers), between
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.between(layer(x))
        return self.head(x.mean(dim=(2, 3)))


def found(model: nn.Module) -> dict[str, ChannelGroup]:
    with torch.no_grad():
        model.eval()(*IMAGE)
    return {group.root: group for group in inspect_model(model, IMAGE).groups}


def test_groups_of_convolutions_in_groups_are_listed_with_their_bundles() -> None:
    groups = found(Net(conv(2, 24), conv(24, 24, 4), conv(24, 24, 6), conv(24, 12, 2)))
    assert [group.bundle for group in groups.values()] == [4, 12, 6, 2]
    assert [group.members for group in groups.values()] == [(f"layers.{i}",) for i in range(4)]


def test_a_depthwise_convolution_passes_bundles_on() -> None:
    groups = found(Net(conv(2, 8), conv(8, 8, 8), conv(8, 6, 2)))
    assert groups["layers.0"] == ChannelGroup(
        "layers.0", 8, ("layers.0", "layers.1"), ("layers.2",), 2
    )
    assert groups["layers.2"].bundle == 2


def test_as_many_groups_as_inputs_or_outputs_alone_is_not_depthwise() -> None:
    groups = found(Net(conv(2, 4), conv(4, 8, 4), conv(8, 4, 4), conv(4, 4)))
    assert {root: group.bundle for root, group in groups.items()} == {
        "layers.1": 4,  # two places in each of four groups
        "layers.3": 1,
    }


def test_transposed_convolutions_in_groups_stay() -> None:
    groups = found(Net(conv(2, 8), nn.ConvTranspose2d(8, 8, 1, groups=2), conv(8, 8)))
    assert list(groups) == ["layers.2"]


@pytest.mark.parametrize("groups", [2, 4])
def test_a_shuffle_that_the_graph_does_not_see_keeps_its_channels(groups: int) -> None:
    """Shapes would agree with any bundle of as many channels, and outputs would not."""
    model = Net(
        conv(2, 16), conv(16, 16, groups), conv(16, 12), between=lambda x: shuffled(x, groups)
    )
    assert list(found(model)) in ([], ["layers.2"])
    assert "layers.0" in found(Net(conv(2, 16), conv(16, 16, groups), conv(16, 12)))


class Beside(nn.Module):
    """Two convolutions whose outputs are concatenated for one in groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first, self.second = conv(2, 4), conv(2, 8)
        self.both, self.head = conv(12, 12, groups), conv(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(torch.cat([self.first(x), self.second(x)], dim=1))
        return self.head(torch.relu(self.both(x))).mean(dim=(2, 3))


def test_concatenated_channels_stay_where_a_group_is_of_one_side() -> None:
    assert list(found(Beside(1))) == ["first", "second", "both"]
    assert list(found(Beside(2))) == ["both"]
    assert list(found(Beside(3))) == ["both"]
