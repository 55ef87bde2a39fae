"""Single-precision numbers that are really 16-bit floats, as those 16 bits, and back; exact."""

from __future__ import annotations

import numpy as np

from evaluation.targets.storage.bits import Array

HALF_BITS = 16


def as_halves(values: Array) -> tuple[str, Array] | None:
    """The kind of 16-bit float that all of these numbers are, and their bits; None: none."""
    whole = values.view(np.uint32)
    if not (whole & 0xFFFF).any():
        return "bfloat16", whole >> 16
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if halves.astype(np.float32).tobytes() == values.tobytes():
        return "float16", halves.view(np.uint16)
    return None


def from_halves(kind: str, bits: Array) -> Array:
    """The numbers in single precision."""
    if kind == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    if kind == "float16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    raise ValueError(f"no floats of kind {kind!r}")
