"""Three networks of the families that are searched most, for timing: nothing is trained.

Residual and depthwise on images of 32 by 32, for which they were made, and a transformer over 32
vectors: between a quarter of a megabyte and some of weights, about a millisecond or a few a sample.
Weights are drawn from a seed of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressors.data import Batch, Split
from evaluation.tasks.mobilenet import MobileNet
from evaluation.tasks.resnet import ResNet20

CLASSES = 10
SAMPLES = 8


class Encoder(nn.Module):
    """Vectors in a row, transformer layers, their mean, class scores."""

    def __init__(self, width: int = 192, layers: int = 3, features: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.head(x.mean(1))
        return scores


@dataclass(frozen=True)
class Network:
    """How one is built, and the shape of a sample."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def model(self) -> nn.Module:
        """The network, always the same; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build().eval()

    def data(self) -> Noise:
        """Made-up data of its shape."""
        return Noise(self.shape)


@dataclass(frozen=True)
class Noise:
    """The same few samples, whatever the split."""

    shape: tuple[int, ...]

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        """One batch."""
        del split, batch_size, seed
        chance = torch.Generator().manual_seed(1)
        labels = torch.arange(SAMPLES) % CLASSES
        yield Batch(
            torch.randn(SAMPLES, *self.shape, generator=chance), labels, torch.arange(SAMPLES)
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy."""
        return cross_entropy(outputs, targets)


NETWORKS: Mapping[str, Network] = {
    "residual": Network(ResNet20, (1, 32, 32)),
    "depthwise": Network(MobileNet, (1, 32, 32)),
    "transformer": Network(Encoder, (32, 16)),
}
