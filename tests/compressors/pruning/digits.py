"""Two small networks trained on scikit-learn's digits, for what only real activations show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.data import Batch, Split

PARTS = {
    "train": slice(0, 1200),
    "calibration": slice(0, 192),
    "validation": slice(1200, 1500),
    "test": slice(1500, None),
}


class Digits:
    """8 x 8 images of ten digits, shuffled once."""

    def __init__(self) -> None:
        found = load_digits()
        order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
        self._images = torch.tensor(found.images / 16, dtype=torch.float32)[order].unsqueeze(1)
        self._targets = torch.tensor(found.target)[order]

    def all(self, split: Split) -> tuple[Tensor, Tensor]:
        return self._images[PARTS[split]], self._targets[PARTS[split]]

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        images, targets = self.all(split)
        order = torch.arange(len(targets))
        if seed is not None:
            order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
        for part in order.split(batch_size or 64):
            yield Batch(images[part], targets[part])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


class Rows(nn.Module):
    """A pre-norm transformer encoder that reads an image's rows as tokens."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.randn(1, 8, width) * 0.2)
        layer = nn.TransformerEncoderLayer(
            width, 3, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.embed(x[:, 0]) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


class Convolutions(nn.Sequential):
    """Three convolutions, one with a batch norm, flattened into two linear layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 48),
            nn.ReLU(),
            nn.Linear(48, 10),
        )


@cache
def digits() -> Digits:
    return Digits()


@cache
def trained(kind: type[nn.Module]) -> nn.Module:
    """A network that has learnt the digits; not to be changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind().train()
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for epoch in range(4):
        for batch in digits().batches("train", seed=epoch):
            optimizer.zero_grad()
            digits().loss(model(batch.inputs), batch.targets).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def outputs(model: nn.Module) -> Tensor:
    """On images that neither training nor calibration saw."""
    return model(digits().all("test")[0])


def agreement(model: nn.Module, reference: nn.Module) -> float:
    """The mean cosine between two networks' outputs on unseen images."""
    return float(F.cosine_similarity(outputs(model), outputs(reference)).mean())
