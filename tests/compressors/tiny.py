"""Tiny models and data that the compressors' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.data import Batch, Split

SIZES: dict[str, int] = {"train": 64, "calibration": 16, "validation": 32, "test": 32}


class Images:
    """Three classes of 8 x 8 images, two channels: a fixed pattern each, and noise."""

    def __init__(
        self,
        *,
        ids: bool = True,
        train: bool = True,
        flat: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        generator = torch.Generator().manual_seed(7)
        patterns = torch.randn(3, 2, 8, 8, generator=generator)
        self._ids = ids
        self._data: dict[str, tuple[Tensor, Tensor]] = {}
        for split, size in SIZES.items():
            size = size if train or split != "train" else 0
            targets = torch.randint(0, 3, (size,), generator=generator)
            images = patterns[targets] + 0.7 * torch.randn(size, 2, 8, 8, generator=generator)
            images = images.flatten(1) if flat else images
            self._data[split] = (images.to(dtype), targets)

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        images, targets = self._data[split]
        order = torch.arange(len(targets))
        if seed is not None:
            order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
        for part in order.split(batch_size or 16) if len(order) else ():
            yield Batch(images[part], targets[part], part if self._ids else None)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def all(self, split: Split) -> tuple[Tensor, Tensor]:
        return self._data[split]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Residual(nn.Module):
    """A ResNet of two stages of two blocks, 8 and 16 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16))
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean(dim=(2, 3)))


class Dense(nn.Sequential):
    """Layers whose names look like numbers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
        )


def seeded(kind: type[nn.Module]) -> nn.Module:
    """A model with fixed weights, and batch norms that have seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.running_var = torch.rand(module.num_features) + 0.5
                nn.init.uniform_(module.weight, -0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    return model.eval()


def trained(kind: type[nn.Module], data: Images, epochs: int = 6) -> nn.Module:
    """A model that has learnt the three patterns."""
    model = seeded(kind).train()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for epoch in range(epochs):
        for batch in data.batches("train", seed=epoch):
            optimizer.zero_grad()
            data.loss(model(batch.inputs), batch.targets).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, data: Images, split: Split = "validation") -> float:
    images, targets = data.all(split)
    with torch.no_grad():
        return float((model(images).argmax(1) == targets).float().mean())
