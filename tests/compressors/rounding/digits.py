"""Small networks trained on scikit-learn's digits, and what their layers really read."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.collectors import columns

LAYERS = ("dense", "depthwise", "conv")
SEEN = 512


@lru_cache
def _data() -> tuple[Tensor, Tensor]:
    images, targets = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16).float()[order].view(-1, 1, 8, 8), torch.tensor(targets)[order]


def _cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24 * 4, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


@lru_cache
def trained() -> nn.Sequential:
    """A network that has seen the digits a few times; not to be changed."""
    images, targets = _data()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        model = _cnn()
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(2):
            for start in range(0, 1200, 64):
                optimizer.zero_grad()
                batch = slice(start, start + 64)
                F.cross_entropy(model(images[batch]), targets[batch]).backward()
                optimizer.step()
    return model.eval()


def layer_of(name: str) -> nn.Linear | nn.Conv2d:
    return trained()[{"depthwise": 3, "conv": 7, "dense": 11}[name]]


@lru_cache
def inputs_of(name: str) -> Tensor:
    """What the layer reads of the images that the network was trained on, and of the others."""
    found: list[Tensor] = []
    handle = layer_of(name).register_forward_pre_hook(lambda _, args: found.append(args[0]))
    with torch.no_grad():
        trained()(_data()[0])
    handle.remove()
    return found[0]


@lru_cache
def grams(name: str) -> tuple[Tensor, Tensor]:
    """Second moments of the layer's inputs: of those to calibrate with, and of others."""
    inputs = inputs_of(name)
    return tuple(_gram(columns(layer_of(name), part)) for part in (inputs[:SEEN], inputs[1200:]))


def _gram(vectors: Tensor) -> Tensor:
    return (vectors.mT.double() @ vectors.double() / vectors.shape[1]).float()
