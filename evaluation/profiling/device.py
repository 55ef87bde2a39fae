"""The device at hand: how a target's files are timed and metered on it, and what it is.

A target that runs its files as `RunsFiles` has them timed for a short while; any other is asked to
compare them. Times are stated at the pace that the device had at first: one file is in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from evaluation.costs.counters import Counter, counters, joules_of
from evaluation.measuring import quiet
from evaluation.measuring.files import Files
from evaluation.measuring.remembered import processor
from evaluation.target import Artifact, Target, Timing
from evaluation.target_extras import PricesEnergy, RunsFiles

SECONDS = 1.0  # of the loop that is metered


@dataclass
class Device:
    """Times and meters one target's files."""

    target: Target
    counters: Sequence[Counter] = field(default_factory=counters)

    @property
    def _files(self) -> Files | None:
        return self.target.files if isinstance(self.target, RunsFiles) else None

    def facts(self) -> dict[str, str]:
        """What prices depend on, apart from the layer."""
        known: Mapping[str, object] = {
            "target": self.target.name,
            "processor": processor(),
            "threads": getattr(self.target, "threads", 1),
            "batch": self.batch,
        }
        if self._files is not None:
            known = self._files.latencies.conditions
        return {name: str(value) for name, value in known.items()}

    @property
    def batch(self) -> int:
        """Samples in a timed call."""
        found = self._files.batch if self._files else getattr(self.target, "batch", 1)
        return int(found)

    def times(self, pace: Path, paths: Sequence[Path]) -> list[Timing]:
        """One timing a file, in turns with each other and with the pace, which comes first."""
        if self._files is not None:
            return self._files.quickly([pace, *paths])
        return self.target.compare(pace, [pace, *paths])

    @property
    def energy_basis(self) -> str | None:
        """Where figures of energy come from; None: there are none."""
        if isinstance(self.target, PricesEnergy):
            return f"computed by {self.target.name}"
        names = ", ".join(counter.name for counter in self.counters)
        return f"measured: {names}" if names else None

    def energy(self, artifact: Artifact, sample: tuple[Tensor, ...]) -> float | None:
        """Microjoules a sample, in calls of the batch; None where nothing tells."""
        if isinstance(self.target, PricesEnergy):
            return self.target.energy(artifact).value
        if not self.counters:
            return None
        predict = self.target.load(artifact.path)
        args = [arg[:1].expand(self.batch, *arg.shape[1:]).contiguous() for arg in sample]
        with quiet.alone():
            drawn = joules_of(lambda: predict(*args), SECONDS, self.counters)
        return None if drawn is None else drawn.energy(self.batch).value * 1e3
