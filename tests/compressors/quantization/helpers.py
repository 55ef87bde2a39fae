"""What the quantisers' tests share: rows of weights, and models with their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.data import Batch, Data, Split
from compressors.policies.steps import FUNCTION_BITS, GROUP, Quantize
from compressors.quantization.layers import insert
from compressors.quantization.weight_quantizer import WeightQuantizer, fit
from tests.compressors.tiny import Images

EVERY_FORMAT = [(function, bits) for function, widths in FUNCTION_BITS.items() for bits in widths]
ONE_WIDTH = [
    ("symmetric", 3),
    ("asymmetric", 4),
    ("log", 4),
    ("kmeans", 2),
    ("ternary", 2),
    ("binary", 1),
    ("e4m3", 8),
    ("e5m2", 8),
]  # of each format


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers, fixed by the seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def every_float() -> Tensor:
    """All numbers that e4m3 has, and what lies about half way between them."""
    floats = torch.arange(256, dtype=torch.int16).to(torch.uint8).view(torch.float8_e4m3fn).float()
    levels = floats[floats.isfinite()].sort().values
    halfway = (levels[1:] + levels[:-1]) / 2
    near = [halfway * (1 + off) for off in (-1e-6, 0, 1e-6)]
    return torch.cat([levels, *near, torch.tensor([449.0, 465.0, 1e4, -1e4, 1e-9])])


def group_of(granularity: str, size: int) -> int:
    """The size of a group where there are groups, else what it is where nobody says it."""
    return size if granularity == "group" else GROUP


def linear(weight: Tensor) -> nn.Linear:
    """A layer with that weight and no bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def quantizer(layer: nn.Module, settings: Quantize, mask: Tensor | None = None) -> WeightQuantizer:
    """The fitted quantiser of a layer's weight."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return WeightQuantizer(layer, settings, fit(layer, weight, settings, mask), mask)


def rounded(weight: Tensor, settings: Quantize) -> Tensor:
    """A matrix on the grid that the settings find for it."""
    layer = linear(weight)
    with torch.no_grad():
        return quantizer(layer, settings)(layer.weight)


def statistics_of(model: nn.Module, data: Data | None = None) -> Statistics:
    """The calibration statistics of a model as it is now."""
    return Statistics(deepcopy(model), Calibration(data or Images()), ContentCache())


def inserted(
    model: nn.Module,
    settings: Mapping[str, Quantize],
    data: Data | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> tuple[str, ...]:
    """Quantise layers of a model, in place, on the data's calibration split."""
    found = statistics_of(model, data)
    return insert(model, settings, found, ContentCache(), masks or {})


class Given:
    """Data whose every split is one batch of these inputs."""

    def __init__(self, *args: Tensor) -> None:
        self._args = args

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        yield Batch(self._args, torch.zeros(len(self._args[0]), dtype=torch.long))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean()


def quantised(layer: nn.Module, x: Tensor, entry: Quantize) -> nn.Sequential:
    """A model of that layer alone, quantised on these inputs."""
    model = nn.Sequential(deepcopy(layer))
    inserted(model, {"0": entry}, Given(x))
    return model
