"""What a target tells of its files' layers, where it can: what each one reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from compressors.quantization.layers import LayerQuantization


@dataclass(frozen=True)
class LayerTensors:
    """Around one layer of a file: what it reads, before any rounding or smoothing that the
    simulated layer does itself, and what it writes, before an activation."""

    layer: str  # module path in the compressed model
    source: Tensor
    result: Tensor
    with_bias: bool = True
    with_norm: bool = True  # a batch norm behind the layer, if there is one, is folded in


@runtime_checkable
class TellsLayers(Protocol):
    """A target whose files can be looked into."""

    layer_tolerance: float  # of a layer's largest difference, as a share of its largest output

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> Sequence[LayerTensors]:
        """The layers of a file, for these inputs; `described` is of the simulated model."""
        ...
