"""What a target is: a machine and a runtime that say what they can execute, and are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compressors.data import Data
from compressors.record import CompressedModel, LayerKind
from evaluation.measurement import Value
from evaluation.task import Predict


@dataclass(frozen=True)
class Precision:
    """Bits of weights and activations that a kernel takes; None is float."""

    weights: int | None
    activations: int | None

    def __str__(self) -> str:
        return "float" if self == FLOAT else f"w{self.weights or 'f'}a{self.activations or 'f'}"


FLOAT = Precision(None, None)
INT8 = Precision(8, 8)


@dataclass(frozen=True)
class Capability:
    """The capability table: per layer kind the precisions with a kernel; the channel multiple."""

    precisions: Mapping[LayerKind, tuple[Precision, ...]]
    channel_multiple: int = 1


@dataclass(frozen=True)
class Artifact:
    """A deployable file, its real size, and what its speed depends on.

    Two artifacts of one signature have the same operators, shapes and precisions and differ in
    weights alone, so that a timing of one is a timing of the other.
    """

    path: Path
    size_bytes: int
    signature: str


@dataclass(frozen=True)
class Timing:
    """One artifact's time in an interleaved run: median, half the 95 % interval, ratio."""

    median_ms: float
    spread_ms: float
    speedup: float  # median of the pairwise ratios reference / this
    speedup_spread: float


class Target(Protocol):
    """A runtime on a machine."""

    name: str
    suffix: str  # of its deployable files, such as .onnx
    capability: Capability

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the one deployable file; what the record calls int8 is int8 there."""
        ...

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        ...

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The latency for the search: measured alone, once a signature, then remembered.

        It is timed in turns with the uncompressed model's file and stated in that file's own
        remembered time, so that a machine that drifts between trials does not favour any of them.
        """
        ...

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """Time files alone on the machine, interleaved with the reference and with each other."""
        ...
