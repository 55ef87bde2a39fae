"""Deployable files of one target as this machine runs them: opened, answered, timed, remembered.

All of it happens in another process, under limits, so that a file on which the runtime hangs or
crashes costs that file alone. Latencies are what a Python caller of the runtime sees there, of a
file that has the machine to itself. Knows nothing of how a runtime opens a file: that is the
opener's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from compressors.errors import UserError
from evaluation.cache import cache_dir
from evaluation.measurement import LATENCY, Value
from evaluation.measuring import quiet
from evaluation.measuring.child import child_of
from evaluation.measuring.limits import Limits
from evaluation.measuring.opened import Opened
from evaluation.measuring.remembered import Latency, LatencyCache, processor
from evaluation.measuring.runner import Array, Opener
from evaluation.measuring.sampling import Effort
from evaluation.measuring.timing import timings
from evaluation.target import Artifact, Timing
from evaluation.task import Predict


@dataclass(frozen=True)
class Files:
    """Runs what the opener opens, and times it at one batch size."""

    opener: Opener
    batch: int
    latencies: LatencyCache
    limits: Limits = field(default_factory=Limits)

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
        timeout_s: float = 120,
        memory_mb: int | None = None,
    ) -> Files:
        """The files of a target; times are remembered for its runtime's version and its knobs.

        To open a file, to answer a batch and to time a file once may take `timeout_s` each, and
        the process in which that happens `memory_mb`, by default half of the machine's memory.
        """
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
        latencies = LatencyCache(cache_dir(cache) / "latency", conditions)
        return Files(opener, batch, latencies, Limits(timeout_s, memory_mb))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file: tensors in, the first output as a tensor."""
        opened = Opened(self.opener, path, self.limits)

        def predict(*args: Tensor) -> Tensor:
            return torch.from_numpy(opened.run(*(_array(arg) for arg in args)))

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
        with quiet.alone():
            return self._timings([reference, *candidates])[1:]

    def _timings(self, paths: Sequence[Path]) -> list[Timing]:
        about = f" timing {', '.join(repr(str(path)) for path in paths)}"
        limits = self.limits.times(len(paths))
        child = child_of(self.opener, self.limits)
        rounds = child.ask("time", paths, self.batch, Effort(), limits=limits, about=about)
        return timings(rounds)

    def _measure(self, artifact: Artifact, reference: Artifact) -> Latency:
        if artifact.signature == reference.signature:
            timing = self._timings([artifact.path])[0]
            return Latency(timing.median_ms, timing.spread_ms)
        base = self.latency(reference, reference).value
        timing = self.compare(reference.path, [artifact.path])[0]
        median = base / timing.speedup
        return Latency(median, median * timing.speedup_spread / timing.speedup)


def _array(arg: Tensor) -> Array:
    """The tensor as an array; half and double precision are float there."""
    values = arg.detach()
    return (values.float() if values.is_floating_point() else values).cpu().numpy()
