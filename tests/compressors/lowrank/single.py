"""One layer in a model of its own, its data, and its factorisation, whether it pays or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.data import Batch, Split
from compressors.lowrank.factorise import Factorisation, factorise_layers
from compressors.lowrank.factorised import Factorised
from compressors.lowrank.jobs import Grams, job_of
from compressors.policies.steps import LowRank


class Given:
    """The same inputs for every split."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        yield Batch(self._x, torch.zeros(len(self._x), dtype=torch.long))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with fixed weights."""
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = drawn(*parameter.shape, seed=seed + index).to(parameter) * 0.3
    return layer.eval()


def seen_by(model: nn.Module, x: Tensor, cache: ContentCache | None = None) -> Statistics:
    return Statistics(model, Calibration(Given(x)), cache or ContentCache())


def factorised(
    layer: nn.Module, step: LowRank, x: Tensor | None = None, cache: ContentCache | None = None
) -> Factorised:
    """The layer's parts, whatever they cost."""
    model = nn.Sequential(layer)
    grams = Grams(seen_by(model, torch.zeros(0) if x is None else x))
    job = job_of("0", layer, step, cache or ContentCache(), grams)
    with torch.no_grad():
        return job.made(job.plan()).eval()


def in_model(
    model: nn.Module, layers: Mapping[str, LowRank], x: Tensor, cache: ContentCache | None = None
) -> Factorisation:
    """The layers of a model factorised in place, where it pays."""
    cache = cache or ContentCache()
    statistics = seen_by(deepcopy(model), x, cache)
    return factorise_layers(model, layers, statistics, cache, example=(x[:1],))
