"""scikit-learn's 1,797 handwritten digits, scaled up, standardised and split four ways.

The splits are stratified, disjoint and follow from the seed alone: 997 digits to train on, 100 to
calibrate ranges, 300 for the search to choose on and 400 that only the final front sees.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compressors.data import Split
from evaluation.tasks.samples import Samples

SIZES: dict[Split, int] = {"test": 400, "validation": 300, "calibration": 100}  # train: the rest


def load_digits(pixels: int, seed: int, *, flat: bool = False) -> Samples:
    """The digits as `pixels` x `pixels` images of one channel, or as flat vectors."""
    from sklearn import datasets  # type: ignore[import-untyped]

    bunch = datasets.load_digits()
    targets = torch.from_numpy(bunch.target).long()
    small = torch.from_numpy(bunch.images).float()[:, None]
    images = interpolate(small, size=(pixels, pixels), mode="bilinear", align_corners=False)
    splits = _split(bunch.target, seed)
    train = images[splits["train"]]
    images = (images - train.mean()) / train.std()
    return Samples(images.flatten(1) if flat else images, targets, splits)


def _split(labels: np.ndarray, seed: int) -> dict[Split, Tensor]:
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    rest = np.arange(len(labels))
    parts: dict[Split, Tensor] = {}
    for name, size in SIZES.items():
        rest, part = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=seed
        )
        parts[name] = torch.from_numpy(cast(np.ndarray, part))
    parts["train"] = torch.from_numpy(rest)
    return parts
