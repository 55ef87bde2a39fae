"""The target that stores: every weight in the bits that its record says, computed in float.

What it is for is size: rows, groups and tables of any width, codebooks, bitmaps. Unpacked, the
model runs in ONNX Runtime on float kernels, whatever its bits, and with the rounding of
activations as operators of its own: its latency is that, and says nothing of integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from compressors.data import Data
from compressors.policies.steps import ACTIVATION_BITS, FUNCTION_BITS, WEIGHT_BITS
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.checking import onnx_layers
from evaluation.checking.told import LayerTensors
from evaluation.lowered import refuse, write
from evaluation.lowering.graph import signature, to_model
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import FP8, Artifact, Basis, Capability, Precision, Timing
from evaluation.targets.ort_cpu.session import VERSION
from evaluation.targets.storage import file
from evaluation.targets.storage.graph import unpacked
from evaluation.targets.storage.opener import StorageOpener
from evaluation.task import Predict

_WEIGHTS = tuple(Precision(bits, None) for bits in (None, *WEIGHT_BITS))
_INTEGERS = tuple(
    Precision(weights.weights, activations)
    for activations in (None, *reversed(ACTIVATION_BITS))
    for weights in _WEIGHTS
)
_EVERY = (*_INTEGERS, FP8, replace(FP8, weights=None))


class Storage:
    """Packed files, unpacked to float models that run with so many threads."""

    name = "storage"
    suffix = ".safetensors"
    tolerance = 0.02
    layer_tolerance = 1e-5
    basis: Basis = "measured"
    capability = Capability(
        {
            "linear": _EVERY,
            "conv1d": _EVERY,
            "conv2d": _EVERY,
            "conv_transpose2d": _EVERY,
            "embedding": _WEIGHTS,
        },
        functions=FUNCTION_BITS,
        granularities=("channel", "tensor", "group"),
        dynamic=True,
        rows=("linear",),
        mask_bits=1,
        integer_activations=False,
    )

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        self.files = Files.of(
            self.name,
            StorageOpener(threads),
            runtime=VERSION,
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )

    def lower(
        self, compressed: CompressedModel, data: Data, path: Path, note: Any = None
    ) -> Artifact:
        """Write the packed file, with a note where another target builds upon this one."""
        del data
        refuse(self, compressed, "cannot store")
        graph, weights = unpacked(compressed)
        packed = file.write(to_model(graph), weights, note)
        return write(path, packed, signature(graph))

    def load(self, path: Path) -> Predict:
        """A callable that runs the unpacked model."""
        return self.files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """That of the unpacked float model, measured alone, once a signature."""
        return self.files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self.files.compare(reference, candidates)

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> list[LayerTensors]:
        """What the layers of a file, unpacked, read and write."""
        return onnx_layers.layer_tensors(file.read(path), args, described)
