"""Small models and data for the contract of the compressors: one that can take each technique."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from compressors.data import Batch, Data, Split
from tests.compressors.architectures import Decoder, Encoder, Inverted, Signal, Tied, Words
from tests.compressors.tiny import Block, Dense, Images


class Small(nn.Sequential):
    """Two convolutions and two linear layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(2, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * width, 12),
            nn.ReLU(),
            nn.Linear(12, 3),
        )


class Residual(nn.Sequential):
    """Three residual blocks, of which the first two can be taken out."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 6, 3, 2, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            Block(6, 6),
            Block(6, 6),
            Block(6, 10, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(10, 3),
        )


class Depthwise(nn.Sequential):
    """Two inverted residuals of depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 4, 3, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            Inverted(4, 4),
            Inverted(4, 6, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "small": Small,
    "school": Small,  # with teachers and students
    "dense": Dense,
    "residual": Residual,
    "depthwise": Depthwise,
    "conv1d": Signal,
    "decoder": Decoder,
    "tied": Tied,
    "attention": lambda: Encoder(8, 4, 1),
}


def build(name: str, seed: int = 3, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model of that name, its norms as if they had seen something; the small one trained."""
    model = _seeded(MODELS[name], seed, torch.float32)
    if name == "small":
        model.load_state_dict(_learnt(seed))
    return model.to(dtype)


@cache
def _learnt(seed: int) -> dict[str, Tensor]:
    """What a small model knows after ten steps."""
    data, model = Images(), _seeded(Small, seed, torch.float32)
    images, targets = data.all("train")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        data.loss(model(images), targets).backward()
        optimizer.step()
    return model.state_dict()


def data_for(name: str, seed: int = 3, dtype: torch.dtype = torch.float32) -> Data:
    """Data that the model of that name takes; the school's models depend on the seed."""
    if name == "tied":
        return Words()
    return School(seed, dtype) if name == "school" else Images(flat=name == "dense", dtype=dtype)


def inputs(data: Data) -> tuple[Tensor, ...]:
    """A batch's inputs."""
    return next(iter(data.batches("validation"))).args


@torch.no_grad()
def outputs(model: nn.Module, data: Data) -> Tensor:
    """The model's answers to them."""
    answers: Tensor = model(*inputs(data))
    return answers


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same names and, to the last bit, the same numbers."""
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def _seeded(kind: Callable[[], nn.Module], seed: int, dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind()
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                nn.init.uniform_(tensor, 0.5, 1.5)
            elif name.endswith("running_mean"):
                nn.init.normal_(tensor, std=0.1)
    return model.eval().to(dtype)


class School:
    """Images, with wider models to learn from and to start as."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._images = Images(dtype=dtype)
        self._models = {
            "wide": _seeded(lambda: Small(12), seed + 1, dtype),
            "wider": _seeded(lambda: Small(16), seed + 2, dtype),
        }

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterator[Batch]:
        return self._images.batches(split, batch_size=batch_size, seed=seed)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._images.loss(outputs, targets)

    def teachers(self) -> Mapping[str, nn.Module]:
        return self._models

    def students(self) -> Mapping[str, nn.Module]:
        return self._models
