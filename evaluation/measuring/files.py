"""Deployable files of one target as this machine runs them: opened, answered, timed, remembered.

Latencies are what a Python caller of the runtime sees, of a file that has the machine to itself.
Knows nothing of how a runtime opens a file: that is the opener's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compressors.errors import UserError
from evaluation.cache import cache_dir
from evaluation.measurement import LATENCY, Value
from evaluation.measuring import quiet
from evaluation.measuring.remembered import Latency, LatencyCache, processor
from evaluation.measuring.runner import Array, Opener
from evaluation.measuring.timing import interleaved
from evaluation.target import Artifact, Timing
from evaluation.task import Predict


@dataclass(frozen=True)
class Files:
    """Runs what the opener opens, and times it at one batch size."""

    opener: Opener
    batch: int
    latencies: LatencyCache

    @staticmethod
    def of(
        target: str,
        opener: Opener,
        *,
        runtime: str,
        threads: int,
        batch: int,
        cache: str | None,
        knobs: Mapping[str, str | int] | None = None,
    ) -> Files:
        """The files of a target; times are remembered for its runtime's version and its knobs."""
        for rule, value in (("target.threads", threads), ("target.batch", batch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{rule} cannot be {value!r}; valid: a whole number from 1.")
        conditions: dict[str, str | int] = {
            "target": target,
            "processor": processor(),
            "runtime": runtime,
            "threads": threads,
            "batch": batch,
            **(knobs or {}),
        }
        return Files(opener, batch, LatencyCache(cache_dir(cache) / "latency", conditions))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file: tensors in, the first output as a tensor."""
        runner = self.opener(path)

        def predict(*args: Tensor) -> Tensor:
            return torch.from_numpy(runner.run(*(_array(arg) for arg in args)))

        return predict

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
        runners = [self.opener(path) for path in (reference, *candidates)]
        with quiet.alone():
            return interleaved([runner.call(self.batch) for runner in runners])[1:]

    def _measure(self, artifact: Artifact, reference: Artifact) -> Latency:
        if artifact.signature == reference.signature:
            timing = interleaved([self.opener(artifact.path).call(self.batch)])[0]
            return Latency(timing.median_ms, timing.spread_ms)
        base = self.latency(reference, reference).value
        timing = self.compare(reference.path, [artifact.path])[0]
        median = base / timing.speedup
        return Latency(median, median * timing.speedup_spread / timing.speedup)


def _array(arg: Tensor) -> Array:
    """The tensor as an array; half and double precision are float there."""
    values = arg.detach()
    return (values.float() if values.is_floating_point() else values).cpu().numpy()
