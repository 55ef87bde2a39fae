"""The default task: ResNet-20 on digits scaled to 32x32."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressors.data import Batch, Split
from evaluation.cache import cache_dir
from evaluation.measurement import ERROR, Value
from evaluation.task import Predict
from evaluation.tasks.digits_data import load_digits
from evaluation.tasks.resnet import ResNet20
from evaluation.tasks.samples import Samples
from evaluation.tasks.training import Recipe, trained


class DigitsResNet20:
    """A trained ResNet-20 and its digits; trains at first use."""

    name = "digits_resnet20"
    metric = ERROR

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
        return load_digits(32, self._recipe.seed)

    def model(self) -> nn.Module:
        """The trained model in eval mode."""
        folder = cache_dir(self._cache_dir)
        return trained(self.name, ResNet20, self._samples, self._recipe, folder, self._threads)

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
