"""The smallest task: the classic 784-200-10 perceptron, on digits scaled to 28x28."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from compressors.data import Batch, Split
from evaluation.cache import cache_dir
from evaluation.measurement import ERROR, Value
from evaluation.task import Predict
from evaluation.tasks.digits_data import load_digits
from evaluation.tasks.samples import Samples
from evaluation.tasks.training import Recipe, trained


class Perceptron(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc2 = nn.Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.fc2(relu(self.fc1(x)))
        return scores


class DigitsMLP:
    """A trained perceptron and its digits; trains at first use."""

    name = "digits_mlp"
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
        return load_digits(28, self._recipe.seed, flat=True)

    def model(self) -> nn.Module:
        """The trained model in eval mode."""
        folder = cache_dir(self._cache_dir)
        return trained(self.name, Perceptron, self._samples, self._recipe, folder, self._threads)

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
