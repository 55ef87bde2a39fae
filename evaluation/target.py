"""What a target is: a machine and a runtime that say what they can execute, and are measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from compressors.data import Data
from compressors.errors import choices
from compressors.record import CompressedModel, LayerKind, LayerRecord
from evaluation.measurement import Value
from evaluation.task import Predict
from evaluation.work import Work

FLOAT_BITS = 32
DEFAULT_FUNCTION = "symmetric"  # of a quantised layer whose record names none
DEFAULT_GRANULARITY = "channel"


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
    """The capability table: what of a compressed layer a target carries out, and what it cannot.

    A layer within the table is lowered; `simulated` says which of its steps then change the
    numbers that come out and save nothing.
    """

    precisions: Mapping[LayerKind, tuple[Precision, ...]]
    channel_multiple: int = 1
    functions: Mapping[str, tuple[int, ...]] = field(  # number formats, each with its widths
        default_factory=lambda: {DEFAULT_FUNCTION: (8,)}
    )
    granularities: tuple[str, ...] = (DEFAULT_GRANULARITY, "tensor")
    dynamic: bool = False  # activations whose ranges are found on every input
    patterns: tuple[str, ...] = ()  # n:m of sparse weights with a kernel that gains by them
    mask_bits: float | None = None  # a weight, to leave zeros out of the file; None: it cannot
    integer_activations: bool = True  # whether rounded activations are computed as integers

    def offered(self, kind: LayerKind, function: str = DEFAULT_FUNCTION) -> tuple[Precision, ...]:
        """The precisions of a kind with the weights in one number format, or in float."""
        widths = (None, *self.functions.get(function, ()))
        return tuple(p for p in self.precisions.get(kind, ()) if p.weights in widths)

    def refusal(self, layer: LayerRecord) -> str | None:
        """What the target cannot carry out of a layer, with the valid choices; None: nothing."""
        valid = self.precisions.get(layer.kind, ())
        asked = Precision(layer.weight_bits, layer.activation_bits)
        if asked not in valid:
            return f"as {asked}; valid for {layer.kind}: {choices(valid) or 'nothing'}"
        if layer.dynamic and not self.dynamic:
            return "with dynamic activations; valid: dynamic false"
        return None if layer.weight_bits is None else self._weight_refusal(layer, layer.weight_bits)

    def _weight_refusal(self, layer: LayerRecord, bits: int) -> str | None:
        function = layer.weight_function or DEFAULT_FUNCTION
        if bits not in self.functions.get(function, ()):
            able = [name for name, widths in self.functions.items() if bits in widths]
            return (
                f"with function {function} at {bits} bits; valid there: {choices(able) or 'none'}"
            )
        granularity = layer.granularity or DEFAULT_GRANULARITY
        if re.sub(r"\d+$", "", granularity) not in self.granularities:
            return f"with granularity {granularity}; valid: {choices(self.granularities)}"
        return None

    def simulated(self, layer: LayerRecord) -> tuple[str, ...]:
        """The steps of a layer, or parts of steps, that this target only simulates."""
        steps = []
        if (layer.sparsity or layer.pattern) and not self._gains_by_zeros(layer):
            steps.append("sparsify")
        if layer.activation_bits is not None and not self.integer_activations:
            steps.append("quantize.activations")
        return tuple(steps)

    def _gains_by_zeros(self, layer: LayerRecord) -> bool:
        if layer.pattern in self.patterns:
            return True
        kept, of = (int(part) for part in (layer.pattern or "1:1").split(":"))
        zeros = max(layer.sparsity, 1 - kept / of)
        bits = layer.weight_bits or FLOAT_BITS
        return self.mask_bits is not None and zeros * bits > self.mask_bits


@dataclass(frozen=True)
class Artifact:
    """A deployable file, its real size, and what its speed depends on.

    Two artifacts of one signature have the same operators, shapes and precisions and differ in
    weights alone, so that a timing of one is a timing of the other.
    """

    path: Path
    size_bytes: int
    signature: str
    work: tuple[Work, ...] = ()  # what it computes, where the target prices by that


@dataclass(frozen=True)
class Timing:
    """One artifact's time in an interleaved run: median, half the 95 % interval, ratio."""

    median_ms: float
    spread_ms: float
    speedup: float  # median of the pairwise ratios reference / this
    speedup_spread: float


Basis = Literal["measured", "computed", "looked up"]


class Target(Protocol):
    """A runtime on a machine."""

    name: str
    suffix: str  # of its deployable files, such as .onnx
    capability: Capability
    tolerance: float  # of an exported output against the simulated one, as a share of its size
    basis: Basis  # of what `compare` says

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the one deployable file; what the record calls int8 is int8 there."""
        ...

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        ...

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The latency for the search: one number a signature, whoever asks and whenever.

        A target that times whole files does so once, alone and in turns with the uncompressed
        model's file, and states the answer in that file's own remembered time.
        """
        ...

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """Time files alone on the machine, interleaved with the reference and with each other."""
        ...
