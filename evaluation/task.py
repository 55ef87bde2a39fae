"""What a task is: a trained model, four disjoint splits of data, a loss and a quality.

A user's own task is any class with these four methods and the two attributes. Quality takes any
callable, so that the same code scores a torch module and an exported file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from compressors.data import Batch, Split
from evaluation.measurement import Metric, Value

Predict = Callable[..., Tensor]  # a batch's positional inputs -> outputs


@runtime_checkable
class OffersDistance(Protocol):
    """A task that says how far outputs are apart, where neither of our own distances fits it."""

    def distance(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """Of a batch's outputs from the uncompressed model's, sample by sample; 0 where equal."""
        ...


class Task(Protocol):
    """The user's side of a search."""

    name: str
    metric: Metric  # of the quality, e.g. error, a fraction, minimize

    def model(self) -> nn.Module:
        """The trained model in eval mode; trained and cached at first use where it must be."""
        ...

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        """Batches of a split, in fixed order, or shuffled by a seed."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The training loss, a scalar."""
        ...

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        """The quality of a predictor on (a fixed first share of) a split, with standard error."""
        ...
