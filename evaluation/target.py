"""What a target is: a machine and a runtime that say what they can execute, and are measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from compressors.data import Data
from compressors.errors import choices
from compressors.policies.steps import FLOAT_INPUTS, FUNCTION_BITS, InputFormat
from compressors.record import CompressedModel, LayerKind, LayerRecord
from evaluation.measurement import Value
from evaluation.task import Predict
from evaluation.work import Work

FLOAT_BITS = 32
DEFAULT_FUNCTION = "symmetric"  # of a quantised layer whose record names none
DEFAULT_GRANULARITY = "channel"


@dataclass(frozen=True)
class Precision:
    """Bits of weights and activations that a kernel takes, None is float; the latter's format."""

    weights: int | None
    activations: int | None
    inputs: InputFormat = "affine"

    def __str__(self) -> str:
        bits = f"w{self.weights or 'f'}a{self.activations or 'f'}"
        usual = bits if self.inputs == "affine" else f"{bits} inputs={self.inputs}"
        return _NAMES.get(self, usual)

    @staticmethod
    def of(layer: LayerRecord) -> Precision:
        """That of a recorded layer."""
        return Precision(layer.weight_bits, layer.activation_bits, layer.inputs)


FLOAT = Precision(None, None)
INT8 = Precision(8, 8)
FP8 = Precision(8, 8, "e4m3")  # weights and activations both
_NAMES = {FLOAT: "float", FP8: "fp8"}
STORED = "quantize.weights"  # of a layer whose weights' bits save bytes and no time


@dataclass(frozen=True)
class Formats:
    """How the weights of one precision may be written."""

    functions: tuple[str, ...] = (DEFAULT_FUNCTION,)
    granularities: tuple[str, ...] = (DEFAULT_GRANULARITY, "tensor")
    groups: tuple[int, ...] = ()  # sizes; none: any


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
    dynamic: bool | tuple[LayerKind, ...] = False  # kinds whose ranges may be found on every input
    one_group: tuple[Precision, ...] = ()  # have no kernel for convolutions in groups
    only_dynamic: tuple[Precision, ...] = ()  # have no kernel for fixed ranges; to be asked for
    rows: tuple[LayerKind, ...] = ()  # kinds of which every row of an input may have its own
    zero_points: bool = True  # of activations; without, 0 is the middle of their grid
    patterns: tuple[str, ...] = ()  # n:m of sparse weights with a kernel that gains by them
    skips_zeros: bool = False  # any zero weight is left out of the computation
    mask_bits: float | None = None  # a weight, to leave zeros out of the file; None: it cannot
    integer_activations: bool = True  # whether rounded activations are computed as what they are
    integer_groups: bool = True  # also those of convolutions in groups
    # Kernels that take other weights than `functions` and `granularities` say, by what they are.
    formats: Mapping[tuple[LayerKind, Precision], Formats] = field(default_factory=dict)
    # Widths for which there is no kernel: fewer bytes in the file, computed as wider ones.
    stored: Mapping[LayerKind, tuple[Precision, ...]] = field(default_factory=dict)
    storage_only: bool = False  # whether those are taken

    def offered(self, kind: LayerKind, function: str = DEFAULT_FUNCTION) -> tuple[Precision, ...]:
        """The precisions of a kind with the weights in one number format, or in float.

        Those that must be dynamic are left out, for a precision alone does not say so.
        """
        valid = (p for p in self._valid(kind) if p not in self.only_dynamic)
        return tuple(p for p in valid if function in self._functions(kind, p))

    def refusal(self, layer: LayerRecord) -> str | None:
        """What the target cannot carry out of a layer, with the valid choices; None: nothing."""
        valid = self._valid(layer.kind)
        asked = Precision.of(layer)
        if asked not in valid:
            known = asked in self.stored.get(layer.kind, ())
            advice = "; target.storage_only=true would store it so" if known else ""
            return f"as {asked}; valid for {layer.kind}: {choices(valid) or 'nothing'}{advice}"
        if layer.groups > 1 and asked in self.one_group:
            return f"as {asked} in {layer.groups} groups; valid: layers of one group"
        if layer.dynamic and not (self.dynamic is True or layer.kind in (self.dynamic or ())):
            return "with dynamic activations; valid: dynamic false"
        if layer.by_row and layer.kind not in self.rows:
            return "with a range for every row of activations; valid: by_row false"
        if asked in self.only_dynamic and not layer.dynamic:
            return f"as {asked} with fixed ranges of activations; valid: dynamic true"
        integers = layer.activation_bits is not None and asked.inputs == "affine"
        if integers and not (self.zero_points or layer.signed):
            return "with activations that have a zero point; valid: signed true"
        return None if layer.weight_bits is None else self._weight_refusal(layer, asked)

    def _valid(self, kind: LayerKind) -> tuple[Precision, ...]:
        stored = self.stored.get(kind, ()) if self.storage_only else ()
        return (*self.precisions.get(kind, ()), *stored)

    def _functions(self, kind: LayerKind, precision: Precision) -> tuple[str, ...]:
        """The number formats of weights of a precision: any, of weights in float.

        Beside inputs that are no integers it is theirs.
        """
        if precision.inputs in FLOAT_INPUTS:
            return (precision.inputs,)
        if precision.weights is None:
            return tuple(FUNCTION_BITS)
        known = self.formats.get((kind, precision))
        if known is not None:
            return known.functions
        return tuple(name for name, bits in self.functions.items() if precision.weights in bits)

    def _weight_refusal(self, layer: LayerRecord, asked: Precision) -> str | None:
        function = layer.weight_function or DEFAULT_FUNCTION
        able = self._functions(layer.kind, asked)
        if function not in able:
            valid = choices(able) or "none"
            return f"with function {function} at {asked.weights} bits; valid there: {valid}"
        known = self.formats.get((layer.kind, asked), Formats((), self.granularities))
        granularity = layer.granularity or DEFAULT_GRANULARITY
        kind, size = re.fullmatch(r"(\D+)(\d*)", granularity).groups()  # type: ignore[union-attr]
        if kind not in known.granularities:
            return f"with granularity {granularity}; valid: {choices(known.granularities)}"
        if size and known.groups and int(size) not in known.groups:
            return f"with groups of {size}; valid: {choices(known.groups)}"
        return None

    def simulated(self, layer: LayerRecord) -> tuple[str, ...]:
        """The steps of a layer, or parts of steps, that this target only simulates."""
        steps = []
        if (layer.sparsity or layer.pattern) and not self._gains_by_zeros(layer):
            steps.append("sparsify")
        integers = self.integer_activations and (self.integer_groups or layer.groups == 1)
        if layer.activation_bits is not None and not integers:
            steps.append("quantize.activations")
        if Precision.of(layer) in self.stored.get(layer.kind, ()):
            steps.append(STORED)
        return tuple(steps)

    def skipped(self, layer: LayerRecord) -> float:
        """The share of a layer's weights that its kernel does not multiply, as they are zero."""
        if self.skips_zeros:
            return max(layer.sparsity, _zeros(layer.pattern))
        return _zeros(layer.pattern) if layer.pattern in self.patterns else 0.0

    def _gains_by_zeros(self, layer: LayerRecord) -> bool:
        if self.skipped(layer) > 0:
            return True
        zeros = max(layer.sparsity, _zeros(layer.pattern))
        bits = layer.weight_bits or FLOAT_BITS
        return self.mask_bits is not None and zeros * bits > self.mask_bits


def _zeros(pattern: str | None) -> float:
    """The share of zeros in weights of a pattern n:m."""
    kept, of = (int(part) for part in (pattern or "1:1").split(":"))
    return 1 - kept / of


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
    """One artifact's time in an interleaved run, and what a server would see of it.

    A spread is half of the 95 % interval in which another run's figure is to be expected.
    """

    median_ms: float
    spread_ms: float
    speedup: float  # median of the pairwise ratios reference / this
    speedup_spread: float
    p50_ms: float | None = None  # of single calls, one after another, as are the next three
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput: float | None = None  # samples a second
    peak_memory_bytes: int | None = None  # beyond the empty runtime's, with this file alone open
    energy_mj: float | None = None  # a sample, by the machine's counters where it has any
    noisy: bool = False  # equals timed apart: the spreads were widened to cover that


Basis = Literal["measured", "computed", "looked up"]


class Target(Protocol):
    """A runtime on a machine."""

    name: str
    suffix: str  # of its deployable files, such as .onnx
    tolerance: float  # of an exported output against the simulated one, as a share of its size
    basis: Basis  # of what `compare` says

    @property
    def capability(self) -> Capability:
        """What of a compressed layer it carries out."""
        ...

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
