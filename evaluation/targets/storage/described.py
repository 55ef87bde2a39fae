"""What the simulation says of a quantised layer's weight, as codes.

The one place that reads the quantisers' own description of themselves.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from compressors.quantization.layers import LayerQuantization
from evaluation.targets.storage.bits import Array
from evaluation.targets.storage.coded import Coded


def coded_weight(facts: LayerQuantization, factors: Array | None) -> tuple[Coded, str]:
    """The codes, and the name of their number format; factors are what a batch norm left."""
    assert facts.stored is not None
    assert facts.function is not None
    stored = facts.stored
    scales = _floats(stored.scales)
    if factors is not None and len(scales) == len(factors):  # they are the scales' as well
        scales, factors = (scales * factors[:, None]).astype(np.float32), None
    return Coded(
        stored.shape,
        stored.axis,
        stored.bits,
        stored.codes.numpy().astype(np.uint16),
        scales,
        stored.group,
        None if stored.zeros is None else stored.zeros.numpy(),
        None if stored.levels is None else _floats(stored.levels),
        None if stored.alive is None else stored.alive.numpy(),
        None if factors is None else factors.astype(np.float32),
    ), facts.function


def _floats(values: Tensor) -> Array:
    return np.ascontiguousarray(values.float().numpy())
