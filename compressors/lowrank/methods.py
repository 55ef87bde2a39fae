"""How one layer is factorised: its full ranks, its singular values, its parts and their weights.

What is costly is kept by content: the full decomposition under the weight alone (and, weighed by
inputs, under what calibration saw), what depends on the ranks too under those as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from compressors.calibration import digest
from compressors.calibration.cache import ContentCache, Tensors
from compressors.lowrank import spatial, tucker
from compressors.lowrank.decompositions import Decomposition, balanced, decompose
from compressors.lowrank.splits import Parts, Spatial, split_of
from compressors.policies.steps import LowRank

Ranks = tuple[int, ...]
Choose = Callable[[int, Callable[[], Tensor]], int]  # from a full rank and its singular values


@dataclass(frozen=True)
class Source:
    """A layer's weight in double precision, and where what was made of it is kept.

    `gram` gives its inputs' Gram matrix, where the step is to be weighed by it.
    """

    weight: Tensor
    key: str
    cache: ContentCache
    gram: Callable[[], Tensor] | None = None

    def kept(self, what: str, make: Callable[[], Tensors]) -> Tensors:
        """What was made of the weight before, or is made now."""
        return self.cache.remembered(self.key_of(what), make)

    def key_of(self, what: str) -> str:
        """The key of what is made of the weight."""
        return digest.of_text("lowrank", what, self.key)

    def inputs(self) -> Tensor | None:
        """The Gram matrix, beside the weight."""
        return None if self.gram is None else self.gram().to(self.weight)


class Method(Protocol):
    """A way to factorise one layer; ranks are in the order in which data meets them."""

    @property
    def product(self) -> str:
        """Of the parts' weights, as einsum writes it."""
        ...

    def ranks(self, choose: Choose) -> Ranks:
        """The ranks, chosen from each full one and its singular values."""
        ...

    def parts(self, layer: nn.Module, ranks: Ranks) -> Parts:
        """The parts, their weights not yet filled."""
        ...

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """The parts' weights."""
        ...


class TwoParts:
    """Two layers from a singular value decomposition."""

    def __init__(self, layer: nn.Module, step: LowRank, source: Source) -> None:
        self._source = source
        self._split = split_of(layer, step)
        self._matrix = self._split.matrix(source.weight)

    @property
    def product(self) -> str:
        """The split's."""
        return self._split.product

    def ranks(self, choose: Choose) -> Ranks:
        """One."""
        return (choose(min(self._matrix.shape), lambda: self._whole().values),)

    def parts(self, layer: nn.Module, ranks: Ranks) -> Parts:
        """The split's."""
        return self._split.parts(layer, ranks[0])

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """The factors, balanced; where inputs weigh, a spatial second one is fitted to them."""
        first, second = self._whole().cut(ranks[0])
        if self._source.gram is not None and isinstance(self._split, Spatial):
            kept = self._source.kept(f"spatial fit {ranks[0]}", lambda: self._fitted(first))
            first, second = (kept[name].to(first) for name in ("first", "second"))
        first, second = balanced(first, second)
        return self._split.weights(first, second, tuple(self._source.weight.shape))

    def _whole(self) -> Decomposition:
        kept = self._source.kept(f"svd {type(self._split).__name__}", self._decomposed)
        return Decomposition(self._matrix, kept)

    def _decomposed(self) -> Tensors:
        gram = self._source.inputs()
        if gram is not None and isinstance(self._split, Spatial):
            gram = spatial.column_gram(gram, self._source.weight.shape)
        return decompose(self._matrix, gram)

    def _fitted(self, first: Tensor) -> Tensors:
        gram = self._source.inputs()
        assert gram is not None
        first, second = spatial.fitted(self._source.weight, first, gram)
        return {"first": first, "second": second}


class ThreeParts:
    """A smaller convolution between two of 1 x 1, from a Tucker decomposition."""

    product = tucker.PRODUCT

    def __init__(self, source: Source) -> None:
        self._source = source

    def ranks(self, choose: Choose) -> Ranks:
        """Of the inputs, and of the outputs."""
        weight = self._source.weight
        inputs, outputs = tucker.full_ranks(weight)
        return tucker.within_reach(
            choose(inputs, lambda: self._whole()["input values"]),
            choose(outputs, lambda: self._whole()["output values"]),
            weight,
        )

    def parts(self, layer: nn.Module, ranks: Ranks) -> Parts:
        """1 x 1, the core, 1 x 1."""
        return tucker.parts(layer, ranks)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """The two bases and the core, balanced."""
        kept = self._source.kept(f"tucker {ranks}", lambda: self._fitted(ranks))
        inputs, outputs = (kept[name].to(self._source.weight) for name in ("input", "output"))
        return tucker.weights(self._source.weight, inputs, outputs)

    def _whole(self) -> Tensors:
        return self._source.kept("hosvd", lambda: tucker.bases(self._source.weight))

    def _fitted(self, ranks: Ranks) -> Tensors:
        return tucker.fitted(self._source.weight, self._whole(), ranks)


def method_of(layer: nn.Module, step: LowRank, source: Source) -> Method:
    """How the step factorises the layer."""
    return ThreeParts(source) if step.form == "tucker" else TwoParts(layer, step, source)


def exact(weight: Tensor) -> Tensor:
    """A weight in double precision, on the processor where its device has none."""
    plain = weight.detach()
    return (plain if plain.device.type in ("cpu", "cuda") else plain.cpu()).to(torch.float64)
