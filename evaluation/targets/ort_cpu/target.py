"""ONNX Runtime on this machine's CPU: float, and 8-bit integer Linear and Conv2d.

Activations are unsigned, weights signed and per channel or per tensor: the pair that has fast
kernels here. Zeros are multiplied like any weight. Latencies are what a Python caller of
`InferenceSession.run` sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from torch import Tensor

from compressors.data import Data
from compressors.errors import UserError
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel, LayerRecord
from evaluation.cache import make_folder, replacing
from evaluation.checking import onnx_layers
from evaluation.checking.told import LayerTensors
from evaluation.lowering.graph import signature, to_model
from evaluation.lowering.lower import lower
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.target import FLOAT, INT8, Artifact, Basis, Capability, Timing
from evaluation.targets.ort_cpu.session import VERSION, OrtOpener
from evaluation.task import Predict


class OrtCpu:
    """ONNX Runtime with so many threads, timed at one batch size."""

    name = "ort_cpu"
    suffix = ".onnx"
    tolerance = 0.02
    layer_tolerance = 3e-4
    basis: Basis = "measured"
    capability = Capability(
        {
            "linear": (FLOAT, INT8),
            "conv2d": (FLOAT, INT8),
            "conv1d": (FLOAT,),
            "conv_transpose2d": (FLOAT,),
            "embedding": (FLOAT,),
        },
        channel_multiple=8,
    )

    def __init__(self, threads: int = 1, batch: int = 1, cache_dir: str | None = None) -> None:
        self._files = Files.of(
            self.name,
            OrtOpener(threads),
            runtime=VERSION,
            threads=threads,
            batch=batch,
            cache=cache_dir,
        )

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the ONNX file."""
        for layer in compressed.record.layers:
            self._check(layer)
        graph = lower(compressed, data)
        make_folder(path.parent)
        with replacing(path) as temporary:
            temporary.write_bytes(to_model(graph).SerializeToString())
        return Artifact(path, path.stat().st_size, signature(graph))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        return self._files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        return self._files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self._files.compare(reference, candidates)

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> list[LayerTensors]:
        """What the layers of a file read and write."""
        return onnx_layers.layer_tensors(onnx.load(path), args, described)

    def _check(self, layer: LayerRecord) -> None:
        reason = self.capability.refusal(layer)
        if reason:
            raise UserError(f"{self.name} has no kernel for layer '{layer.name}' {reason}.")
