"""TensorRT: float, 8-bit integer and 8-bit float Linear and Conv2d, on a GPU.

What is left in float is single precision, or half where the user asks for it (`precision`). Lowers
and checks everywhere. Times where a TensorRT is installed; elsewhere files are computed by ONNX
Runtime, for their quality, and nothing is said of their speed. FP8 is e4m3 on both sides; TensorRT
has no fast kernel of it for convolutions in groups, which are refused. Its pairs are as TensorRT
documents them, and no engine was ever built of such a file: least sure is a scale for every output
channel, where others write one a tensor. Weights of 4 bits are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx
from torch import Tensor

from compressors.data import Data
from compressors.errors import UserError, choices
from compressors.policies.steps import FLOAT_INPUTS
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.cache import cache_dir as default_folder
from evaluation.checking import onnx_layers
from evaluation.checking.told import LayerTensors
from evaluation.lowered import refuse, write
from evaluation.lowering.graph import signature, to_model
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.measuring.runner import Opener
from evaluation.target import FLOAT, FP8, INT8, Artifact, Basis, Capability, Timing
from evaluation.targets.ort_cpu.session import VERSION
from evaluation.targets.tensorrt import halves
from evaluation.targets.tensorrt.engine import EngineOpener
from evaluation.targets.tensorrt.lowering import lower
from evaluation.targets.tensorrt.opener import ArithmeticOpener
from evaluation.targets.tensorrt.opset import NEWEST, to_newest
from evaluation.task import Predict

PRECISIONS = ("fp32", "fp16")
# The tolerances: now and then a half is rounded to another small number than a single, of 8-bit
# floats to one that is up to an eighth away.
IN_HALVES = 0.05
IN_HALVES_AND_FLOATS = 0.1


class TensorRT:
    """ONNX files for TensorRT, timed at one batch size where there is one."""

    name = "tensorrt"
    suffix = ".onnx"
    tolerance = 0.02
    layer_tolerance = 3e-4
    basis: Basis = "measured"
    capability = Capability(
        {
            "linear": (FLOAT, INT8, FP8),
            "conv2d": (FLOAT, INT8, FP8),
            "conv1d": (FLOAT,),
            "conv_transpose2d": (FLOAT,),
            "embedding": (FLOAT,),
        },
        channel_multiple=16,  # of dense integer tensor cores
        zero_points=False,
        one_group=(FP8,),
        patterns=("2:4",),
    )

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        *,
        precision: str = "fp32",
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(
                f"target.precision cannot be {precision!r}; valid: {choices(PRECISIONS)}."
            )
        self._halves = precision == "fp16"
        if self._halves:
            self.tolerance, self.layer_tolerance = IN_HALVES, IN_HALVES
        found = _version()
        folder = str(default_folder(cache_dir) / "engines")
        opener: Opener = EngineOpener(folder, batch) if found else ArithmeticOpener(threads)
        self.untimed = None if found else "no TensorRT is installed here"
        self.files = Files.of(
            self.name,
            opener,
            runtime=found or f"onnxruntime {VERSION}",
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            knobs={"precision": precision},
        )

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the ONNX file with its pairs."""
        refuse(self, compressed)
        graph = lower(compressed, data)
        if self._halves:
            graph = halves.in_halves(graph)
        model = to_model(graph, NEWEST) if self._halves else to_newest(graph)
        return write(path, model.SerializeToString(), signature(graph))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file, on TensorRT or as ONNX Runtime computes it."""
        return self.files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        self._needs_timing()
        return self.files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        self._needs_timing()
        return self.files.compare(reference, candidates)

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> list[LayerTensors]:
        """What the layers of a file read and write, as the file says."""
        return onnx_layers.layer_tensors(onnx.load(path), args, described)

    def tolerance_of(self, compressed: CompressedModel) -> float:
        """More where layers in 8-bit floats read halves."""
        floats = any(layer.inputs in FLOAT_INPUTS for layer in compressed.record.layers)
        return IN_HALVES_AND_FLOATS if self._halves and floats else 0.0

    def _needs_timing(self) -> None:
        if self.untimed:
            raise UserError(
                f"{self.name} cannot time files, as {self.untimed}; valid here: quality and "
                "size_bytes, or another target."
            )


def _version() -> str | None:
    """The TensorRT that is installed; a folder of that name is none."""
    try:
        return version("tensorrt")
    except PackageNotFoundError:
        return None
