"""Deployable files of one target as this machine runs them: opened, answered, timed, remembered.

All of it happens in another process, under limits, so that a file on which the runtime hangs or
crashes costs that file alone. It stays in the folder in which it was started, so that paths go
there whole. Latencies are what a Python caller of the runtime sees there, of a file that has the
machine to itself. Knows nothing of how a runtime opens a file: that is the opener's business.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from compressors.errors import UserError
from evaluation.cache import cache_dir
from evaluation.costs.counters import counters
from evaluation.measurement import LATENCY, Value
from evaluation.measuring import quiet
from evaluation.measuring.child import Child, child_of
from evaluation.measuring.limits import TIMEOUT_S, Limits
from evaluation.measuring.opened import Opened
from evaluation.measuring.operators import Operator, Price
from evaluation.measuring.remembered import Latency, LatencyCache, processor
from evaluation.measuring.runner import Array, Opener
from evaluation.measuring.sampling import TIMED, Block, Effort
from evaluation.measuring.timing import BOUND, QUICK, departure, noise, timings, widened
from evaluation.target import Artifact, Timing
from evaluation.task import Predict

SEARCH = Effort(runs=2, blocks=5, seconds=0.15, warm_seconds=0.15, burst_least=0)  # one latency
TOGETHER = Effort(runs=2, seconds=0.15, warm_seconds=0.1, burst_least=0)  # for those of a few files
TOO_WIDE = 0.1  # of the time: a latency whose spread is beyond it is provisional
METERED_S = 2.0  # seconds of calls for an energy


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
        timeout_s: float = TIMEOUT_S,
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
            "timed": TIMED,
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
        latency = self.latencies.settled(artifact.signature)
        if latency is None:
            with quiet.alone():  # whoever was alone before may have measured it meanwhile
                latency = self.latencies.remembered(
                    artifact.signature,
                    lambda: self._measure(artifact, reference),
                    lambda: (
                        artifact.path.exists() and reference.path.exists() and noise(QUICK) < BOUND
                    ),
                )
        return Value(LATENCY, latency.median_ms, latency.spread_ms)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        with quiet.alone():
            timings = self._timed(reference, candidates, Effort())[1:]
        paths = dict.fromkeys(candidates)  # each once: a process a file is started to weigh it
        drawn = {path: (self._peak(path), self._energy(path)) for path in paths}
        return [
            replace(timing, peak_memory_bytes=drawn[path][0], energy_mj=drawn[path][1])
            for timing, path in zip(timings, candidates, strict=True)
        ]

    def quickly(self, paths: Sequence[Path]) -> list[Timing]:
        """One timing a file, in turns and for a short while, against the first."""
        with quiet.alone():
            return self._timed(paths[0], paths[1:], TOGETHER)

    def operators(self, path: Path) -> tuple[Operator, ...]:
        """What the runtime makes of a file, where its opener tells."""
        child, about = child_of(self.opener, self.limits), f" reading '{path}'"
        found: tuple[Operator, ...] = child.ask(
            "operators", path.absolute(), self.batch, limits=self.limits, about=about
        )
        return found

    def prices(self, path: Path, keys: Sequence[str], reference: Path) -> dict[str, Price]:
        """What some of a file's operators take, and the yardstick beside them."""
        child, about = child_of(self.opener, self.limits), f" pricing '{path}'"
        limits = self.limits.times(1 + len(keys))
        found: dict[str, Price] = child.ask(
            "prices",
            path.absolute(),
            self.batch,
            keys,
            reference.absolute(),
            limits=limits,
            about=about,
        )
        return found

    def _timed(self, reference: Path, candidates: Sequence[Path], effort: Effort) -> list[Timing]:
        """The reference, then the candidates; noisy where no run was calm."""
        paths = [reference, reference, *candidates]
        best = min(self._runs(paths, effort), key=lambda run: departure(run[1]))
        apart = departure(best[1])
        calm = [best[0], *best[2:]]
        return calm if apart <= BOUND else [widened(timing, apart) for timing in calm]

    def _runs(self, paths: Sequence[Path], effort: Effort) -> Iterator[list[Timing]]:
        """One run, and a few more while they are noisy."""
        for _ in range(effort.runs):
            blocks = [self._block(paths, effort) for _ in range(effort.blocks)]
            run = timings(blocks, self.batch)
            yield run
            if departure(run[1]) <= BOUND:
                return

    def _block(self, paths: Sequence[Path], effort: Effort) -> Block:
        about = f" timing {', '.join(repr(str(path)) for path in dict.fromkeys(paths))}"
        limits = self.limits.times(len(paths))
        child = child_of(self.opener, self.limits)
        whole = [path.absolute() for path in paths]
        block: Block = child.ask("time", whole, self.batch, effort, limits=limits, about=about)
        return block

    def _energy(self, path: Path) -> float | None:
        if not counters():
            return None
        child, about = child_of(self.opener, self.limits), f" metering '{path}'"
        with quiet.alone():
            found: float | None = child.ask(
                "energy", path.absolute(), self.batch, METERED_S, limits=self.limits, about=about
            )
        return found

    def _peak(self, path: Path) -> int | None:
        """In a process of its own, for what another file left behind would be used again."""
        child = Child(pickle.dumps(self.opener), self.limits)
        try:
            about = f" weighing '{path}'"
            found: int | None = child.ask(
                "peak", path.absolute(), self.batch, limits=self.limits, about=about
            )
            return found
        finally:
            child.end()

    def _measure(self, artifact: Artifact, reference: Artifact) -> Latency:
        if artifact.signature == reference.signature:
            timing = self._timed(artifact.path, [], SEARCH)[0]
            return _latency(timing.median_ms, timing.spread_ms, timing.noisy)
        base = self.latency(reference, reference).value
        timing = self._timed(reference.path, [artifact.path], SEARCH)[1]
        median = base / timing.speedup
        return _latency(median, median * timing.speedup_spread / timing.speedup, timing.noisy)


def _latency(median: float, spread: float, noisy: bool) -> Latency:
    return Latency(median, spread, noisy or spread > TOO_WIDE * median)


def _array(arg: Tensor) -> Array:
    """The tensor as an array; half and double precision are float there."""
    values = arg.detach()
    return (values.float() if values.is_floating_point() else values).cpu().numpy()
