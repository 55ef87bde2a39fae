"""The levels of number formats that are the same for every weight: code -> level.

The scale that multiplies a level is the weight's own. Affine formats and k-means have none here.
"""

from __future__ import annotations

import numpy as np
import torch

from evaluation.targets.storage.bits import Array


def fixed_levels(function: str, bits: int) -> Array | None:
    """One row of levels by code; None where a function has none, or not of that width."""
    if (function, bits) == ("binary", 1):
        return np.array([[-1, 1]], np.float32)
    if (function, bits) == ("ternary", 2):
        return np.array([[-1, 0, 1]], np.float32)
    if function == "log" and 2 <= bits <= 8:
        return _powers(2 ** (bits - 1) - 1)
    if function in FLOAT8 and bits == 8:
        codes = torch.arange(256, dtype=torch.int16).to(torch.uint8)
        levels: Array = codes.view(FLOAT8[function]).float().numpy()
        return levels[None]
    return None


def _powers(count: int) -> Array:
    """So many powers of two down from 1, of either sign, and 0 between them."""
    powers = 2.0 ** np.arange(1 - count, 1)
    return np.concatenate([-powers[::-1], [0.0], powers]).astype(np.float32)[None]


FLOAT8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
