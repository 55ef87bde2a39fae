"""ExecuTorch with the XNNPACK backend on this machine's CPU: float, and 8-bit Linear and Conv2d.

Integer layers read and write 8-bit integers, weights per channel. Linear layers of dynamic ranges
read and write floats, which the kernel rounds row by row; their weights may have 4 bits, also in
groups, whose scales it keeps in half precision. Weights of few bits beside float inputs have no
kernel. Operators that XNNPACK lacks run in ExecuTorch's portable kernels, in float. Latencies are
what a Python caller of a method sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compressors.data import Data
from compressors.record import CompressedModel
from evaluation.lowered import refuse, write
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import FLOAT, INT8, Artifact, Basis, Capability, Formats, Precision, Timing
from evaluation.targets.executorch.session import ExecutorchOpener, runtime_version
from evaluation.task import Predict

INT4_WEIGHTS = Precision(4, 8)  # two a byte


class Executorch:
    """ExecuTorch with so many threads, timed at one batch size."""

    name = "executorch"
    suffix = ".pte"
    tolerance = 0.05
    basis: Basis = "measured"
    capability = Capability(
        {
            "linear": (FLOAT, INT8, INT4_WEIGHTS),
            "conv2d": (FLOAT, INT8),
            "conv1d": (FLOAT,),
            "conv_transpose2d": (FLOAT,),
            "embedding": (FLOAT,),
        },
        channel_multiple=8,
        functions={"symmetric": (4, 8)},
        dynamic=("linear",),
        only_dynamic=(INT4_WEIGHTS,),
        formats={
            ("linear", INT4_WEIGHTS): Formats(
                granularities=("channel", "tensor", "group"), groups=(32, 64, 128, 256)
            )
        },
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
        self._batch = batch
        self.files = Files.of(
            self.name,
            ExecutorchOpener(threads),
            runtime=runtime_version(),
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the .pte file."""
        from evaluation.targets.executorch.lower import lower

        refuse(self, compressed)
        written, signature = lower(compressed, data, self._batch)
        return write(path, written, signature)

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        return self.files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        return self.files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self.files.compare(reference, candidates)
