"""Models as people write them: transformers, masks, attributes read, layers of their own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from compressors.calibration.cache import ContentCache
from compressors.lowrank.factorise import factorise_layers
from compressors.modules import layer_kind
from compressors.policies.steps import LowRank, Quantize
from compressors.pruning.depth import remove_blocks
from compressors.quantization.layers import describe, insert
from compressors.structures.inspection import inspect_model
from tests.compressors.lowrank.single import factorised, seen_by


def factorise_and_quantize(
    model: nn.Module, x: Tensor, lowranks: dict[str, LowRank], quantize: dict[str, Quantize]
) -> None:
    factorise_layers(model, lowranks, seen_by(deepcopy(model), x), ContentCache())
    insert(model, quantize, seen_by(deepcopy(model), x), ContentCache())


def test_torchs_transformer_layer_calls_its_compressed_layers() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    plain = model(x)
    factorise_and_quantize(model, x, {"linear1": LowRank(0.3)}, {})
    thin = model(x)
    assert not torch.allclose(thin, plain)
    factorise_and_quantize(model, x, {}, {"linear2": Quantize(2, None)})
    assert list(describe(model)) == ["linear2"]
    assert not torch.allclose(model(x), thin)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        assert self.fc.weight.shape == (self.fc.out_features, self.fc.in_features) == (8, 8)
        return self.fc(x.to(self.fc.weight.dtype)) + self.fc.bias


def test_a_model_may_read_its_layers_attributes() -> None:
    model, x = Reader(), torch.randn(3, 8)
    factorise_and_quantize(model, x, {"fc": LowRank(0.25)}, {})
    factorise_and_quantize(model, x, {}, {"fc.0": Quantize(8, 8), "fc.1": Quantize(8, None)})
    model(x)
    model = Reader()
    factorise_and_quantize(model, x, {}, {"fc": Quantize(8, 8)})
    model(x)


@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.Conv2d(6, 5, 3)])
def test_a_factorised_layer_at_full_rank_reads_as_the_layer(layer: nn.Module) -> None:
    whole = factorised(layer, LowRank(1.0))
    torch.testing.assert_close(whole.weight, layer.weight)
    assert whole.bias is not None
    assert torch.equal(whole.bias, layer.bias)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + self.fc(x)


class Caller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Masked()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, mask=None)


def test_a_removed_block_may_be_called_with_more_than_its_input() -> None:
    model, x = Caller(), torch.randn(2, 4)
    structure = inspect_model(model, (x[:1],))
    assert [block.name for block in structure.blocks] == ["block"]
    remove_blocks(model, ["block"], structure)
    assert torch.equal(model(x), x)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class SamePadding(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(F.pad(x, (0, 1, 0, 1)), weight, bias)


def test_layers_that_compute_something_of_their_own_are_left_alone() -> None:
    own = (Standardised(2, 4, 3), SamePadding(4, 4, 2), weight_norm(nn.Conv2d(4, 4, 1)))
    model = nn.Sequential(*own, nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 2))
    seen = inspect_model(model, (torch.randn(1, 2, 8, 8),))
    assert [layer.name for layer in seen.layers] == ["3", "5"]
    assert [group.root for group in seen.groups] == ["3"]


class OwnSignal(nn.Conv1d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x - x.mean(), weight, bias)


class OwnTable(nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.embedding_dim**0.5


class OwnSize(nn.ConvTranspose2d):
    def _output_padding(self, *args: Any, **kwargs: Any) -> list[int]:
        return [0, 0]


def test_an_ordinary_layer_and_a_renamed_one_are_layers() -> None:
    class Named(nn.Linear):
        """A subclass that changes nothing."""

    assert layer_kind(Named(2, 2)) == "linear"
    assert layer_kind(nn.Conv1d(1, 1, 1)) == "conv1d"
    assert layer_kind(nn.Conv2d(1, 1, 1)) == "conv2d"
    assert layer_kind(nn.ConvTranspose2d(1, 1, 1)) == "conv_transpose2d"
    assert layer_kind(nn.Embedding(2, 2)) == "embedding"


@pytest.mark.parametrize(
    "module",
    [
        OwnSignal(1, 1, 1),
        OwnTable(2, 2),
        OwnSize(1, 1, 1),
        nn.Embedding(2, 2, max_norm=1.0),  # rewrites its table as it reads it
        weight_norm(nn.Embedding(2, 2)),
        nn.Conv3d(1, 1, 1),
        nn.ConvTranspose1d(1, 1, 1),
        nn.LayerNorm(2),
        nn.Bilinear(1, 1, 1),
    ],
    ids=lambda module: type(module).__name__,
)
def test_other_modules_are_none(module: nn.Module) -> None:
    assert layer_kind(module) is None


def test_a_quantised_layer_is_none() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    factorise_and_quantize(model, torch.ones(1, 2), {}, {"0": Quantize(8, 8)})
    assert layer_kind(model[0]) is None
