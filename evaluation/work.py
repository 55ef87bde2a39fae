"""What a compressed model computes for one sample, layer by layer: the common coin of costs.

Plain data; knows nothing of machines. Tables, analytic accelerators and energy models price it.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressors.record import LayerKind


@dataclass(frozen=True)
class Work:
    """One layer's share, for one sample."""

    layer: str  # module path in the compressed model
    kind: LayerKind
    shape: str  # what else its speed depends on, canonical: "64x64x3x3 s1 p1 d1 g1 @8x8"
    macs: int
    weights: int  # numbers, zeros among them
    inputs: int  # numbers read
    outputs: int  # numbers written
    weight_bits: int | None = None  # None: float
    activation_bits: int | None = None
    zeros: float = 0.0  # share of the weights
