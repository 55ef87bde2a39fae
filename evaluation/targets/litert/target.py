"""LiteRT on this machine's CPU: float, and 8-bit integer Linear, Conv1d and Conv2d.

The file is written from the graph with the simulation's own integers, shifted to signed ones; what
a layer of fixed scales writes is 8 bits too, one of dynamic scales writes floats, and finds its
input's range row by row, of convolutions sample by sample. XNNPACK's kernels
run it. Activations of 16 bits (16x8) are not offered, as a policy's end at 8. Latencies are what a
Python caller of the interpreter sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from compressors.data import Data
from compressors.errors import UserError
from compressors.record import CompressedModel
from evaluation.lowered import refuse, write
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import FLOAT, INT8, Artifact, Basis, Capability, Precision, Timing
from evaluation.task import Predict

PACKAGE = "ai-edge-litert"
INT8_WEIGHTS = Precision(8, None)  # expanded as the file is opened: small, and as fast as float
INT4_WEIGHTS = Precision(4, 8)  # two a byte, expanded by XNNPACK's kernel


class LiteRt:
    """The LiteRT interpreter with so many threads, timed at one batch size."""

    name = "litert"
    suffix = ".tflite"
    tolerance = 0.05
    basis: Basis = "measured"
    capability = Capability(
        {
            "linear": (FLOAT, INT8, INT8_WEIGHTS, INT4_WEIGHTS),
            "conv2d": (FLOAT, INT8, INT8_WEIGHTS),
            "conv1d": (FLOAT, INT8, INT8_WEIGHTS),
            "conv_transpose2d": (FLOAT,),
            "embedding": (FLOAT,),
        },
        channel_multiple=8,
        functions={"symmetric": (4, 8)},
        dynamic=True,
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
        version = _version()
        from evaluation.targets.litert.opener import LiteRtOpener

        self.files = Files.of(
            self.name,
            LiteRtOpener(threads),
            runtime=version,
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the .tflite file."""
        from evaluation.targets.litert.lower import lower

        refuse(self, compressed)
        content, signature = lower(compressed, data)
        return write(path, content, signature)

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        return self.files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        return self.files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self.files.compare(reference, candidates)


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"The target litert needs {PACKAGE}: pip install 'paredown[litert]'."
        ) from error
