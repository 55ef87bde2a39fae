"""ONNX Runtime on this machine's CPU: float, and 8-bit integer Linear and Conv2d.

Activations are unsigned, weights signed and per channel: the pair that has fast kernels here.
Latencies are what a Python caller of `InferenceSession.run` sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compressors.data import Data
from compressors.errors import UserError, choices
from compressors.record import CompressedModel, LayerRecord
from evaluation import quiet
from evaluation.cache import cache_dir, make_folder, replacing
from evaluation.measurement import LATENCY, Value
from evaluation.target import FLOAT, INT8, Artifact, Capability, Precision, Timing
from evaluation.targets import ort_session
from evaluation.targets.latency_cache import Latency, LatencyCache, processor
from evaluation.targets.onnx_graph import signature, to_model
from evaluation.targets.onnx_lower import lower
from evaluation.task import Predict
from evaluation.timing import interleaved


class OrtCpu:
    """ONNX Runtime with so many threads, timed at one batch size."""

    name = "ort_cpu"
    suffix = ".onnx"
    capability = Capability({"linear": (FLOAT, INT8), "conv2d": (FLOAT, INT8)}, channel_multiple=8)

    def __init__(self, threads: int = 1, batch: int = 1, cache_dir: str | None = None) -> None:
        for rule, value in (("target.threads", threads), ("target.batch", batch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{rule} cannot be {value!r}; valid: a whole number from 1.")
        self._threads = threads
        self._batch = batch
        self._latencies = self._open_cache(cache_dir)

    def _open_cache(self, chosen: str | None) -> LatencyCache:
        conditions: dict[str, str | int] = {
            "target": self.name,
            "processor": processor(),
            "runtime": ort_session.VERSION,
            "threads": self._threads,
            "batch": self._batch,
        }
        return LatencyCache(cache_dir(chosen) / "latency", conditions)

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
        return ort_session.open_file(path, self._threads).predict

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        latency = self._latencies.get(artifact.signature)
        if latency is None:
            with quiet.alone():  # whoever was alone before may have measured it meanwhile
                latency = self._latencies.remembered(
                    artifact.signature, lambda: self._measure(artifact, reference)
                )
        return Value(LATENCY, latency.median_ms, latency.spread_ms)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        sessions = [ort_session.open_file(p, self._threads) for p in (reference, *candidates)]
        with quiet.alone():
            return interleaved([session.call(self._batch) for session in sessions])[1:]

    def _measure(self, artifact: Artifact, reference: Artifact) -> Latency:
        if artifact.signature == reference.signature:
            session = ort_session.open_file(artifact.path, self._threads)
            timing = interleaved([session.call(self._batch)])[0]
            return Latency(timing.median_ms, timing.spread_ms)
        base = self.latency(reference, reference).value
        timing = self.compare(reference.path, [artifact.path])[0]
        median = base / timing.speedup
        return Latency(median, median * timing.speedup_spread / timing.speedup)

    def _check(self, layer: LayerRecord) -> None:
        valid = self.capability.precisions[layer.kind]
        asked = Precision(layer.weight_bits, layer.activation_bits)
        if asked not in valid:
            raise UserError(
                f"{self.name} has no kernel for layer '{layer.name}' as {asked}; "
                f"valid for {layer.kind}: {choices(valid)}."
            )
