"""A policy's latency from the prices of the operators that the runtime makes of its file.

Whoever asks gets the same answer: prices, the correction and the uncompressed model's own latency
are measured once, alone on the machine, and remembered for (processor, runtime, settings, threads,
batch). A file with operators that have no price yet has these, and no others, priced first.
Predictions are stated in the uncompressed model's own measured latency, so that what the correction
gets wrong about a family of models cancels. Knows nothing of how a runtime lists or prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path

from evaluation.cache import locked
from evaluation.latency import correction
from evaluation.latency.correction import Correction, by_family
from evaluation.latency.operator_table import OperatorTable
from evaluation.latency.suite import suite
from evaluation.measurement import LATENCY, Value
from evaluation.measuring import quiet
from evaluation.measuring.files import Files
from evaluation.measuring.operators import Operator
from evaluation.measuring.remembered import Latency, LatencyCache
from evaluation.target import Artifact, Target

UNPRICED_MS = 0.002  # of an operator that cannot run alone: shapes and indices, mostly


@dataclass
class Predictor:
    """Prices the files of one target."""

    target: Target
    files: Files
    _correction: Correction | None = field(default=None, init=False)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The uncompressed model's as it was measured, every other as it is predicted from that."""
        anchor = self._remembered.remembered(reference.signature, lambda: self._measured(reference))
        if artifact.signature == reference.signature:
            return Value(LATENCY, anchor.median_ms, anchor.spread_ms)
        key = f"{artifact.signature}/{reference.signature}"
        found = self._remembered.remembered(key, lambda: self._against(artifact, reference, anchor))
        return Value(LATENCY, found.median_ms, found.spread_ms)

    def raw(self, path: Path) -> float:
        """The latency of a file in ms, by prices and correction alone."""
        fitted = self.prepare()
        return fitted.latency_ms(self._sums(self._priced(path)))

    def prepare(self) -> Correction:
        """The correction of this machine, fitted now if nobody has done so."""
        if self._correction is None:
            self._correction = correction.read(self._fitted)
        if self._correction is None:
            with locked(self._fitted):
                self._correction = correction.read(self._fitted) or self._fit()
        return self._correction

    @property
    def table(self) -> OperatorTable:
        """The prices."""
        return OperatorTable(self._fitted.with_suffix(".csv"))

    @property
    def _fitted(self) -> Path:
        path = self.files.latencies.path
        return path.parent.parent / "operators" / path.with_suffix(".json").name

    @property
    def _remembered(self) -> LatencyCache:
        known = self.files.latencies
        return replace(known, conditions={**known.conditions, "figure": "predicted"})

    def _against(self, artifact: Artifact, reference: Artifact, anchor: Latency) -> Latency:
        scale = anchor.median_ms / self.raw(reference.path)
        predicted = self.raw(artifact.path) * scale
        relative = sqrt((anchor.spread_ms / anchor.median_ms) ** 2 + self.prepare().departure ** 2)
        return Latency(predicted, predicted * relative)

    def _measured(self, reference: Artifact) -> Latency:
        found = self.files.latency(reference, reference)
        return Latency(found.value, found.spread or 0.0)

    def _priced(self, path: Path) -> tuple[Operator, ...]:
        """The operators of a file, each with a price where it can have one."""
        operators = self.files.operators(path)
        if self.table.missing(operators):
            with quiet.alone():  # whoever was alone before may have priced some meanwhile
                missing = self.table.missing(operators)
                if missing:
                    self.table.put(operators, self.files.prices(path, missing))
        return operators

    def _sums(self, operators: Sequence[Operator]) -> dict[str, float]:
        table = self.table
        prices = ((o.family, table.get(o.key)) for o in operators)
        return by_family([(f, p.median_ms if p else UNPRICED_MS) for f, p in prices])

    def _fit(self) -> Correction:
        with quiet.alone(), suite(self.target) as artifacts:
            paths = [artifact.path for artifact in artifacts]
            sums = [self._sums(self._priced(path)) for path in paths]
            timings = self.files.quickly(paths)
        fitted = correction.fit(sums, [timing.median_ms for timing in timings])
        correction.write(self._fitted, fitted)
        return fitted
