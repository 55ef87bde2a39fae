"""Which modules of a model can leave it, and that the rest runs without them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from compressors.pruning.depth import remove_blocks
from compressors.structures.attention import open_attentions
from compressors.structures.inspection import inspect_model
from tests.compressors.architectures import ARCHITECTURES, build, data_for, example_for

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
EXPECTED = {
    "plain": [],
    "resnet": ["layer1.0", "layer1.1", "layer2.1"],
    "mobilenet": ["blocks.0", "blocks.2", "blocks.3"],
    "densenet": [],
    "transformer": ["encoder.layers.0", "encoder.layers.1"],
    "own_attention": ["blocks.0", "blocks.1"],
    "huggingface": ["vit.vit.layers.0", "vit.vit.layers.1"],
}


def blocks(model: nn.Module, *args: Tensor) -> list[str]:
    return [block.name for block in inspect_model(model, args).blocks]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name in EXPECTED])
def test_blocks_of_the_architectures(name: str, opened: bool) -> None:
    model = build(name)
    if opened:
        open_attentions(model)
    structure = inspect_model(model, example_for(name))
    assert [block.name for block in structure.blocks] == EXPECTED[name]
    (batch,) = data_for(name).batches("calibration")
    for chosen in (*([n] for n in EXPECTED[name]), EXPECTED[name]):
        left = deepcopy(model)
        remove_blocks(left, chosen, structure)
        assert left(*batch.args).shape == (16, 3)
        gone = {layer for b in structure.blocks if b.name in chosen for layer in b.layers}
        kept = [layer.name for layer in inspect_model(left, example_for(name)).layers]
        assert kept == [layer.name for layer in structure.layers if layer.name not in gone]


class Layer(nn.Module):
    """A post-norm transformer layer as libraries write it: two modules, tuples, keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = Attended(), nn.Linear(8, 8)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, None]:
        hidden, weights = self.attention(hidden, mask=mask)
        return torch.tanh(hidden + self.out(hidden)), weights, None


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weights = (hidden @ hidden.transpose(1, 2) + (0 if mask is None else mask)).softmax(-1)
        return torch.tanh(hidden + self.mix(weights @ hidden)), weights


class Library(nn.Module):
    """Calls its layers with keywords and takes the first of what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(1, x.shape[1], x.shape[1])
        for layer in self.layers:
            x = layer(hidden=x, mask=mask)[0]
        return self.head(x)


def test_a_layer_that_takes_keywords_and_returns_a_tuple() -> None:
    model = Library()
    structure = inspect_model(model, (X[:1],))
    assert [(b.name, b.outputs) for b in structure.blocks] == [("layers.0", 3), ("layers.1", 3)]
    expected = model.head(model.layers[1](X, torch.zeros(1, 5, 5))[0])
    remove_blocks(model, ["layers.0"], structure)
    torch.testing.assert_close(model(X), expected)


class ReadsWeights(Library):
    """Asks its first layer for more than can be told of a removed one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.layers[0].out.weight.dtype))


class AsksAttributes(Library):
    """Asks its first layer what it can tell."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.layers[0].out.in_features == 8
        return super().forward(x)


def test_what_a_model_reads_of_its_layers() -> None:
    assert blocks(ReadsWeights(), X[:1]) == ["layers.1"]
    model = AsksAttributes()
    structure = inspect_model(model, (X[:1],))
    assert len(structure.blocks) == 2
    remove_blocks(model, ["layers.0", "layers.1"], structure)
    again = deepcopy(model)
    torch.testing.assert_close(again(X), model.head(X))
    with pytest.raises(AttributeError, match="nothing"):
        model.layers[0].nothing  # noqa: B018


class Stage(nn.Module):
    """A stage of blocks with a convolution behind: the blocks are what can go."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Added() for _ in range(count)))
        self.last = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(x))


class Added(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(x)


def test_blocks_do_not_overlap() -> None:
    assert blocks(nn.Sequential(Stage(2)), X[:1]) == ["0.blocks.0", "0.blocks.1"]
    assert blocks(nn.Sequential(Stage(1)), X[:1]) == ["0.blocks.0"]
    assert blocks(nn.Sequential(nn.Sequential(Added(), nn.Linear(8, 8))), X[:1]) == ["0.0"]


class AddedOutside(nn.Module):
    """The caller adds the input: without it the block would have to be zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def test_a_module_whose_input_the_caller_adds_is_no_block() -> None:
    assert blocks(nn.Sequential(AddedOutside()), X[:1]) == ["0"]
    assert blocks(AddedOutside(), X[:1]) == []


@pytest.mark.filterwarnings("ignore:.*nested:UserWarning")
def test_torchs_encoder_without_its_first_layer_takes_padding() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2)).eval()
    structure = inspect_model(model, (X[:1],))
    assert [b.name for b in structure.blocks] == ["0.layers.0", "0.layers.1"]
    remove_blocks(model, ["0.layers.0"], structure)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        y = model[0](X, src_key_padding_mask=padding)
    assert y.isfinite().all()
