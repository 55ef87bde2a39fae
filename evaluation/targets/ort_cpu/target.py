"""ONNX Runtime on this machine's CPU: float, 8-bit integers, linear layers of 4 and 8-bit weights.

Integer activations are unsigned, weights signed and per channel or per tensor: the pair that has
fast kernels here. Zeros are multiplied like any weight. Where the user asks for it
(`storage_only`), weights of other widths are packed in the file, and computed as what has a kernel.
Latencies are what a Python caller of `InferenceSession.run` sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from torch import Tensor

from compressors.data import Data
from compressors.errors import UserError
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.checking import onnx_layers
from evaluation.checking.told import LayerTensors
from evaluation.latency.fitting import Others, Tell
from evaluation.latency.source import latencies, prepare
from evaluation.lowered import refuse, write
from evaluation.lowering.graph import signature, to_model
from evaluation.lowering.lower import lower
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import Artifact, Basis, Timing
from evaluation.targets.ort_cpu.kernels import TABLE, table
from evaluation.targets.ort_cpu.rewriting import Forms
from evaluation.targets.ort_cpu.session import VERSION, OrtOpener
from evaluation.task import Predict

ROUNDED = 0.05  # the tolerances where kernels round inputs that the simulation leaves in float


class OrtCpu:
    """ONNX Runtime with so many threads, timed at one batch size."""

    name = "ort_cpu"
    suffix = ".onnx"
    tolerance = 0.02
    layer_tolerance = 3e-4
    basis: Basis = "measured"
    capability = TABLE

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        *,
        latency: str = "predicted",
        storage_only: bool = False,
        round_inputs: bool = False,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        for rule, value in (("storage_only", storage_only), ("round_inputs", round_inputs)):
            if not isinstance(value, bool):
                raise UserError(f"target.{rule} cannot be {value!r}; valid: true, false.")
        self.capability = table(storage_only=storage_only, round_inputs=round_inputs)
        self._forms = Forms(round_inputs)
        if round_inputs:
            self.tolerance, self.layer_tolerance = ROUNDED, ROUNDED
        self.files = Files.of(
            self.name,
            OrtOpener(threads),
            runtime=VERSION,
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )
        self._latencies = latencies(self.files, latency)

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the ONNX file."""
        refuse(self, compressed)
        graph = lower(compressed, data, self._forms)
        return write(path, to_model(graph).SerializeToString(), signature(graph))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        return self.files.load(path)

    def prepare(self, reference: Artifact, others: Others, tell: Tell) -> None:
        """Measure what predictions of a model need, if that is still to be done."""
        prepare(self._latencies, reference, others, tell)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Predicted from the prices of its operators, or measured, once a signature."""
        return self._latencies.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self.files.compare(reference, candidates)

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> list[LayerTensors]:
        """What the layers of a file read and write."""
        return onnx_layers.layer_tensors(onnx.load(path), args, described)
