"""What is found in live models: layers, groups, blocks, and what is rightly left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from compressors.structures.attention import open_attentions
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import Structure
from tests.compressors.architectures import ARCHITECTURES, build, example_for
from tests.compressors.tiny import Block, Dense, Residual, seeded

IMAGE = (torch.zeros(1, 2, 8, 8),)


def groups(structure: Structure) -> dict[str, tuple[str, ...]]:
    return {group.root: group.members for group in structure.groups}


def test_a_residual_network() -> None:
    structure = inspect_model(seeded(Residual), IMAGE)
    assert groups(structure) == {
        "conv1": ("conv1", "layer1.0.conv2", "layer1.1.conv2"),
        "layer1.0.conv1": ("layer1.0.conv1",),
        "layer1.1.conv1": ("layer1.1.conv1",),
        "layer2.0.conv1": ("layer2.0.conv1",),
        "layer2.0.conv2": ("layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv2"),
        "layer2.1.conv1": ("layer2.1.conv1",),
    }
    assert [block.name for block in structure.blocks] == ["layer1.0", "layer1.1", "layer2.1"]
    assert structure.blocks[2].layers == ("layer2.1.conv1", "layer2.1.conv2")
    stem, strided, head = (structure.layer(n) for n in ("conv1", "layer2.0.conv1", "fc"))
    assert stem
    assert strided
    assert head
    assert (stem.parameters, stem.macs) == (144, 144 * 64)
    assert (strided.kernel, strided.macs) == ((3, 3), 8 * 16 * 9 * 16)
    assert (head.kind, head.parameters, head.macs) == ("linear", 16 * 3 + 3, 16 * 3)


def test_the_model_is_left_as_it_is() -> None:
    model = seeded(Residual).train()
    model.fc.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inspect_model(model, IMAGE)
    assert model.training
    assert not model.fc.weight.requires_grad
    assert model.conv1.weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_chain_of_linear_layers_keeps_its_answer() -> None:
    structure = inspect_model(Dense(), (torch.zeros(1, 128),))
    assert groups(structure) == {"0": ("0",), "2": ("2",)}
    assert structure.blocks == ()


class Returning(nn.Module):
    """Returns a residual sum: every layer's channels are the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.second(x)


class TwoHeads(nn.Module):
    """A layer that is an answer and also feeds another."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return features, self.head(features)


class Shared(nn.Module):
    """One module run twice, and two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.right.weight = self.left.weight
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.right(F.relu(self.left(self.twice(self.twice(self.stem(x)))))))


class FixedHeads(nn.Module):
    """Code that counts on a number of channels: four heads of two."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.free, self.head = nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x).reshape(len(x), 4, 2).softmax(dim=2).reshape(len(x), 8)
        return self.head(F.relu(self.free(x)))


class Concatenated(nn.Module):
    """Two branches side by side, added to one that is as wide as both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)
        self.both, self.inner, self.head = (
            nn.Conv2d(2, 8, 1),
            nn.Conv2d(8, 5, 1),
            nn.Conv2d(5, 3, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], dim=1) + self.both(x)
        return self.head(self.inner(x))


class Depthwise(nn.Module):
    """A depthwise convolution goes with the layer before it; one in groups loses bundles."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.project, self.grouped = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1, groups=2)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))
        return self.head(self.grouped(x))


@pytest.mark.parametrize(
    ("model", "example", "expected"),
    [
        (Returning(), IMAGE, {}),
        (TwoHeads(), IMAGE, {}),
        (FixedHeads(), (torch.zeros(1, 8),), {"free": ("free",)}),
        (Concatenated(), IMAGE, {"inner": ("inner",)}),
        (
            Depthwise(),
            IMAGE,
            {"expand": ("expand", "depthwise"), "project": ("project",), "grouped": ("grouped",)},
        ),
        (nn.Sequential(nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(256, 3)), IMAGE, {"0": ("0",)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_groups_are_listed_only_where_channels_can_go(
    model: nn.Module, example: tuple[Tensor, ...], expected: dict[str, tuple[str, ...]]
) -> None:
    assert groups(inspect_model(model, example)) == expected


def test_shared_layers_are_counted_once_and_not_pruned() -> None:
    structure = inspect_model(Shared(), IMAGE)
    names = [layer.name for layer in structure.layers]
    assert names == ["stem", "twice", "left", "right", "head"]
    twice = structure.layer("twice")
    assert twice
    assert twice.macs == 2 * 16 * 64
    assert not {"twice", "left", "right"} & set(groups(structure))


class Nested(nn.Module):
    """A residual module around another: the inner one is the block."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Block(2, 2), nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Plain(nn.Module):
    """Keeps the shape, and has no residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + 1)


class InPlace(nn.Module):
    """A residual written with +=, and taken twice through one block."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.twice = Added(), Added()

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(self.block(x)))


class Added(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += x
        return y


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(Nested()), ["0.inner"]),
        (nn.Sequential(Plain()), []),
        (InPlace(), ["block"]),
        (nn.Sequential(nn.Sequential(Block(2, 4, 2))), []),
    ],
)
def test_blocks(model: nn.Module, names: list[str]) -> None:
    assert [block.name for block in inspect_model(model, IMAGE).blocks] == names


class Tokens(nn.Module):
    """Flattens samples and tokens before its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(0, 1)).mean(dim=0)


def test_a_layer_that_runs_on_flattened_tokens_counts_them_all() -> None:
    (layer,) = inspect_model(Tokens(), (torch.zeros(1, 7, 4),)).layers
    assert layer.macs == 7 * 4 * 3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_multiply_accumulates_are_half_of_torchs_operations(name: str) -> None:
    model, example = build(name), example_for(name)
    open_attentions(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example)
    counts = counter.get_flop_counts()
    layers = inspect_model(model, example).layers
    assert len(layers) >= 3
    for layer in layers:
        found = counts.get(f"{type(model).__name__}.{layer.name}", {})
        assert 2 * layer.macs == sum(found.values()), layer.name


def test_layers_of_every_kind() -> None:
    found = {}
    for name in ("conv1d", "decoder", "tied"):
        structure = inspect_model(build(name), example_for(name))
        found |= {layer.name: layer for layer in structure.layers}
    told = {name: (layer.kind, layer.kernel) for name, layer in found.items()}
    assert told["conv1"] == ("conv1d", (3,))
    assert told["up"] == ("linear", ())
    assert told["first"] == ("conv2d", (3, 3))
    assert told["embedding"] == ("embedding", ())
    table = found["embedding"]
    assert (table.in_channels, table.out_channels, table.parameters) == (11, 8, 88)
    decoder = inspect_model(build("decoder"), example_for("decoder"))
    up = decoder.layer("up")
    assert up
    assert (up.kind, up.kernel) == ("conv_transpose2d", (2, 2))
    assert (up.in_channels, up.out_channels, up.parameters) == (10, 8, 10 * 8 * 4 + 8)


def test_what_is_tied_or_runs_twice_is_in_no_group() -> None:
    structure = inspect_model(build("tied"), example_for("tied"))
    assert groups(structure) == {"up": ("up",)}
    assert structure.groups[0].readers == ("down",)


def test_readers_are_the_layers_whose_inputs_go() -> None:
    readers = {g.root: g.readers for g in inspect_model(seeded(Residual), IMAGE).groups}
    assert readers["layer2.0.conv2"] == ("layer2.1.conv1", "fc")
    assert readers["layer2.1.conv1"] == ("layer2.1.conv2",)
