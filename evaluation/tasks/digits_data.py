"""scikit-learn's 1,797 handwritten digits, scaled up, standardised and split four ways.

The splits are stratified, disjoint and follow from the seed alone: 997 digits to train on, 100 to
calibrate ranges, 300 for the search to choose on and 400 that only the final front sees.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compressors.data import Split
from evaluation.cache import make_folder, replacing
from evaluation.tasks.samples import Samples

SIZES: dict[Split, int] = {"test": 400, "validation": 300, "calibration": 100}
REST: Split = "train"


def load_digits(pixels: int, seed: int, folder: Path, *, flat: bool = False) -> Samples:
    """The digits as `pixels` x `pixels` images of one channel, or as flat vectors."""
    found = _kept(folder / "data" / f"digits-{version('scikit-learn')}-{seed}.npz", seed)
    targets = torch.from_numpy(found["target"]).long()
    small = torch.from_numpy(found["images"]).float()[:, None]
    images = interpolate(small, size=(pixels, pixels), mode="bilinear", align_corners=False)
    splits: dict[Split, Tensor] = {name: torch.from_numpy(found[name]) for name in (*SIZES, REST)}
    train = images[splits[REST]]
    images = (images - train.mean()) / train.std()
    return Samples(images.flatten(1) if flat else images, targets, splits)


def _kept(path: Path, seed: int) -> dict[str, np.ndarray]:
    """What scikit-learn gives, from a file once it was drawn: importing that takes a second."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in ("target", "images", *SIZES, REST)}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        drawn = _drawn(seed)
    make_folder(path.parent)
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **drawn)
    return drawn


def _drawn(seed: int) -> dict[str, np.ndarray]:
    from sklearn import datasets  # type: ignore[import-untyped]
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    bunch = datasets.load_digits()
    rest = np.arange(len(bunch.target))
    parts = {"target": bunch.target, "images": bunch.images}
    for name, size in SIZES.items():
        rest, parts[name] = train_test_split(
            rest, test_size=size, stratify=bunch.target[rest], random_state=seed
        )
    return {**parts, REST: rest}
