"""What the simulation says of a quantised layer's weight, as codes.

The one place that reads the quantisers' own description of themselves.
"""

from __future__ import annotations

import numpy as np

from compressors.quantization.layers import LayerQuantization
from compressors.record import LayerKind
from evaluation.targets.storage.bits import Array
from evaluation.targets.storage.coded import Coded, to_rows


def coded_weight(
    facts: LayerQuantization, kind: LayerKind, factors: Array | None
) -> tuple[Coded, str]:
    """The codes, and the name of their number format; factors are what a batch norm left."""
    assert facts.weight_bits is not None
    assert facts.weight_integers is not None
    assert facts.weight_scales is not None
    axis = 1 if kind == "conv_transpose2d" else 0
    integers = facts.weight_integers.numpy()
    rows = to_rows(integers, axis)
    scales = facts.weight_scales.float().numpy().reshape(-1, 1)
    highest = 2 ** (facts.weight_bits - 1) - 1
    if factors is not None:  # a row's factor is as well its scale's
        scales, factors = (scales * factors[:, None]).astype(np.float32), None
    return Coded(
        integers.shape,
        axis,
        facts.weight_bits,
        (rows.astype(np.int32) + highest).astype(np.uint16),
        scales,
        rows.shape[1],
        zeros=np.full(scales.shape, highest, np.int32),
    ), "symmetric"
