"""A residual network of a few thousand weights on made-up data, for tests that need a real one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from compressors.data import Batch, Split
from evaluation.measurement import ERROR, Value
from evaluation.task import Predict
from evaluation.tasks.samples import Samples

SIZES: dict[Split, int] = {"calibration": 32, "train": 64, "validation": 40, "test": 40}
LAYERS = ("stem", "block.one", "block.two", "down", "fc")


class TinyBlock(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.two = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm2(self.two(relu(self.norm1(self.one(x))))) + x)


class TinyNet(nn.Module):
    """Stem, residual block, pooled, a strided convolution, a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.block = TinyBlock(width)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.block(relu(self.stem(x))))
        scores: Tensor = self.fc(relu(self.norm(self.down(x))).mean((2, 3)))
        return scores


class TinyTask:
    """Untrained, but with batch norms that are no identities, some of their factors negative."""

    name = "tiny"
    metric = ERROR

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        self._chance = torch.Generator().manual_seed(seed)
        self._seed, self._width = seed, width
        count = sum(SIZES.values())
        inputs = torch.randn(count, 1, 12, 12, generator=self._chance)
        targets = torch.randint(0, 10, (count,), generator=self._chance)
        ids = torch.arange(count).split(list(SIZES.values()))
        self._samples = Samples(inputs, targets, dict(zip(SIZES, ids, strict=True)))

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            model = TinyNet(self._width)
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.normal_(module.weight, 0.5, 0.5)
                    nn.init.normal_(module.bias, 0, 0.3)
                    nn.init.normal_(module.running_mean, 0, 0.2)
                    nn.init.uniform_(module.running_var, 0.3, 1.5)
        return model.eval()

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        return self._samples.batches(split, batch_size, seed)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        return self._samples.error(predict, split, fraction)
