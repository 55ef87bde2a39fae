"""OpenVINO on this machine's CPU: 8-bit integer layers, packed weights, and float.

Inputs of integer layers are unsigned 8-bit with a zero point, their weights signed, per channel or
per tensor. Linear layers may have their weights alone packed, in 8 or 4 bits, per channel, tensor
or group, which are multiplied out as the layer runs. Float is single precision unless
`precision_hint` says otherwise. Where the user asks for it (`storage_only`), other layers and
widths are packed in the file too, and spread out when it is loaded. Inputs whose ranges are found
on every input have no kernel: OpenVINO's are rounded in groups along a row, not as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from compressors.data import Data
from compressors.errors import UserError, choices
from compressors.record import CompressedModel
from evaluation.artifact_parts import parts
from evaluation.cache import make_folder
from evaluation.latency.fitting import Others, Tell
from evaluation.latency.source import latencies, prepare
from evaluation.lowered import refuse
from evaluation.lowering.graph import to_model
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import Artifact, Basis, Capability, Timing
from evaluation.targets.openvino_cpu.abilities import TABLE, table
from evaluation.task import Predict

ROUNDED = 0.05  # the tolerance where kernels round what the simulation leaves in float


class OpenVinoCpu:
    """OpenVINO with so many threads, timed at one batch size."""

    name = "openvino_cpu"
    suffix = ".xml"
    tolerance = 0.02
    basis: Basis = "measured"
    capability: Capability = TABLE

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        precision_hint: str = "f32",
        *,
        latency: str = "predicted",
        storage_only: bool = False,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        installed = _version()
        if not isinstance(storage_only, bool):
            raise UserError(f"target.storage_only cannot be {storage_only!r}; valid: true, false.")
        self.capability = table(storage_only=storage_only)
        from evaluation.targets.openvino_cpu.session import OpenVinoOpener

        _check_hint(precision_hint)
        if precision_hint != "f32":
            self.tolerance = ROUNDED
        self.files = Files.of(
            self.name,
            OpenVinoOpener(threads, precision_hint),
            runtime=installed,
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            knobs={"precision_hint": precision_hint},
        )
        self._latencies = latencies(self.files, latency)

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the .xml, and the .bin beside it."""
        from evaluation.targets.openvino_cpu import ir
        from evaluation.targets.openvino_cpu.lowering import lowered

        refuse(self, compressed)
        made = lowered(compressed, data)
        make_folder(path.parent)
        ir.write(to_model(made.graph), made.bits, path)
        size = sum(part.stat().st_size for part in parts(path))
        return Artifact(path, size, made.signature())

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


def _version() -> str:
    try:
        return version("openvino")
    except PackageNotFoundError:
        raise UserError(
            "The target openvino_cpu needs OpenVINO: pip install 'paredown[openvino]'."
        ) from None


def _check_hint(hint: str) -> None:
    if hint == "f32":
        return
    from evaluation.targets.openvino_cpu.session import precisions

    able = precisions()
    if hint not in able:
        raise UserError(
            f"target.precision_hint cannot be {hint!r}; valid on this CPU: {choices(able)}."
        )
