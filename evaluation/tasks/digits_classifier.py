"""What the digits tasks share: a network trained once, its samples, loss and quality.

Knows nothing of any network; a subclass names one, and the shape of the images that it takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressors.data import Batch, Split
from evaluation.cache import cache_dir
from evaluation.measurement import ERROR, Value
from evaluation.task import Predict
from evaluation.tasks.digits_data import load_digits
from evaluation.tasks.samples import Samples
from evaluation.tasks.training import Recipe, trained


class DigitsClassifier:
    """A trained network and its digits; trains at first use."""

    name: str
    metric = ERROR
    network: ClassVar[type[nn.Module]]
    pixels: ClassVar[int]  # the side of the images
    flat: ClassVar[bool] = False  # whether they come as vectors

    def __init__(
        self,
        cache_dir: str | None = None,
        seed: int = 0,
        epochs: int = 20,
        threads: int = 1,
    ) -> None:
        self._cache_dir = cache_dir
        self._recipe = Recipe(epochs=epochs, seed=seed)
        self._threads = threads

    @cached_property
    def _samples(self) -> Samples:
        folder = cache_dir(self._cache_dir)
        return load_digits(self.pixels, self._recipe.seed, folder, flat=self.flat)

    def model(self) -> nn.Module:
        """The trained model in eval mode."""
        folder = cache_dir(self._cache_dir)
        return trained(self.name, self.network, self._samples, self._recipe, folder, self._threads)

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        """Batches of a split, in fixed order, or shuffled by a seed."""
        return self._samples.batches(split, batch_size, seed)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy."""
        return cross_entropy(outputs, targets)

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        """The share of wrong answers."""
        return self._samples.error(predict, split, fraction)
