"""Latencies of files that run in ONNX Runtime on this CPU, as a Python caller sees them.

Each is measured alone on the machine and remembered by its signature. Knows nothing of how a file
becomes a session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressors.errors import UserError
from evaluation import quiet
from evaluation.cache import cache_dir
from evaluation.measurement import LATENCY, Value
from evaluation.target import Artifact, Timing
from evaluation.targets import ort_session
from evaluation.targets.latency_cache import Latency, LatencyCache, processor
from evaluation.targets.ort_session import Session
from evaluation.timing import interleaved


@dataclass(frozen=True)
class OrtTiming:
    """Times what `open_file` opens, at one batch size."""

    open_file: Callable[[Path], Session]
    batch: int
    latencies: LatencyCache

    @staticmethod
    def of(
        target: str,
        open_file: Callable[[Path, int], Session],
        threads: int,
        batch: int,
        chosen: str | None,
    ) -> OrtTiming:
        """The timing of a target, remembered in the cache folder that was chosen."""
        for rule, value in (("target.threads", threads), ("target.batch", batch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{rule} cannot be {value!r}; valid: a whole number from 1.")
        conditions: dict[str, str | int] = {
            "target": target,
            "processor": processor(),
            "runtime": ort_session.VERSION,
            "threads": threads,
            "batch": batch,
        }
        cache = LatencyCache(cache_dir(chosen) / "latency", conditions)
        return OrtTiming(lambda path: open_file(path, threads), batch, cache)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        latency = self.latencies.get(artifact.signature)
        if latency is None:
            with quiet.alone():  # whoever was alone before may have measured it meanwhile
                latency = self.latencies.remembered(
                    artifact.signature, lambda: self._measure(artifact, reference)
                )
        return Value(LATENCY, latency.median_ms, latency.spread_ms)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        sessions = [self.open_file(path) for path in (reference, *candidates)]
        with quiet.alone():
            return interleaved([session.call(self.batch) for session in sessions])[1:]

    def _measure(self, artifact: Artifact, reference: Artifact) -> Latency:
        if artifact.signature == reference.signature:
            timing = interleaved([self.open_file(artifact.path).call(self.batch)])[0]
            return Latency(timing.median_ms, timing.spread_ms)
        base = self.latency(reference, reference).value
        timing = self.compare(reference.path, [artifact.path])[0]
        median = base / timing.speedup
        return Latency(median, median * timing.speedup_spread / timing.speedup)
