"""A policy's latency from the prices of the operators that the runtime makes of its file.

Whoever asks gets the same answer: prices, corrections and the uncompressed model's own latency are
measured once, alone on the machine, and remembered for (processor, runtime, settings, threads,
batch). A file with operators that have no price yet has these, and no others, priced first. A
model's correction is fitted on it and on some policies of it, as whole files; predictions are
stated in the uncompressed model's own measured latency. Knows nothing of how a runtime lists or
prices, nor of what a policy is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path

from evaluation.latency import correction_file
from evaluation.latency.correction import PLAIN, Correction
from evaluation.latency.fitting import Fitting, Others, Tell
from evaluation.latency.operator_table import OperatorTable
from evaluation.latency.parts import Part, Priced
from evaluation.measurement import LATENCY, Value
from evaluation.measuring import quiet
from evaluation.measuring.files import Files
from evaluation.measuring.operators import FLOOR, Operator, Price
from evaluation.measuring.remembered import Latency, LatencyCache
from evaluation.target import Artifact

PREPARING = "measuring what operators take on this machine, once"
METHOD = "prices-6"  # how prices and predictions are made: others are not taken for these
LEAST_MS = 1e-4  # of a prediction: nothing is for nothing
UNPRICED_MS = 0.002  # of an operator that cannot run alone: shapes and indices, mostly


@dataclass
class Predictor:
    """Prices the files of one target."""

    files: Files
    _corrections: dict[str, Correction] = field(default_factory=dict, init=False)
    _tables: dict[str, OperatorTable] = field(default_factory=dict, init=False)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The uncompressed model's as it was measured, every other as it is predicted from that."""
        anchor = self._remembered.remembered(reference.signature, lambda: self._measured(reference))
        if artifact.signature == reference.signature:
            return Value(LATENCY, anchor.median_ms, anchor.spread_ms)
        key = f"{artifact.signature}/{reference.signature}"
        found = self._remembered.remembered(key, lambda: self._against(artifact, reference, anchor))
        return Value(LATENCY, found.median_ms, found.spread_ms)

    def prepare(self, reference: Artifact, others: Others, tell: Tell = lambda _: None) -> None:
        """Fit the correction of a model, if nobody has; `tell` hears of it as that goes on."""
        if self._known(reference) is not None:
            return
        target = self.files.latencies.conditions["target"]
        tell(f"{target}: {PREPARING} …")
        with quiet.alone():  # whoever was alone before may have fitted it meanwhile
            if self._known(reference) is None:
                told = self._fit(reference, others(), lambda words: tell(f"{target}: {words}"))
                correction_file.write(self._path(reference), told)

    def table(self, reference: Artifact) -> OperatorTable:
        """The prices of a model's operators, held against that model uncompressed."""
        path = self._path(reference).with_suffix(".csv")
        return self._tables.setdefault(reference.signature, OperatorTable(path))

    @cached_property
    def _remembered(self) -> LatencyCache:
        """Predictions, apart from what was measured: a cache of its own."""
        known = self.files.latencies
        return LatencyCache(known.folder, {**known.conditions, "figure": f"predicted by {METHOD}"})

    def _path(self, reference: Artifact) -> Path:
        path = self.files.latencies.path
        return path.parent.parent / METHOD / f"{path.stem}-{reference.signature}.json"

    def _known(self, reference: Artifact) -> Correction | None:
        found = self._corrections.get(reference.signature) or correction_file.read(
            self._path(reference)
        )
        if found is not None:
            self._corrections[reference.signature] = found
        return found

    def _against(self, artifact: Artifact, reference: Artifact, anchor: Latency) -> Latency:
        fitted = self._known(reference) or PLAIN
        raw = self._raw(fitted, artifact, reference)
        base = fitted.first_ms or self._raw(fitted, reference, reference)
        predicted = raw * anchor.median_ms / base
        relative = sqrt((anchor.spread_ms / anchor.median_ms) ** 2 + fitted.departure**2)
        return Latency(predicted, predicted * relative)

    def _raw(self, fitted: Correction, artifact: Artifact, reference: Artifact) -> float:
        return max(fitted.latency_ms(self._model(artifact, reference)), LEAST_MS)

    def _measured(self, reference: Artifact) -> Latency:
        found = self.files.latency(reference, reference)
        return Latency(found.value, found.spread or 0.0)

    def _fit(self, reference: Artifact, others: Iterable[Artifact], tell: Tell) -> Correction:
        def priced(artifact: Artifact) -> Priced:
            return self._model(artifact, reference)

        def floor_ms() -> float:
            floor = self.table(reference).get(FLOOR)
            return floor.median_ms if floor else 0.0

        return Fitting(reference, priced, self.files.quickly, floor_ms).fitted(others, tell)

    def _priced(self, path: Path, reference: Artifact) -> tuple[Operator, ...]:
        """The operators of a file, each with a price; none is tried for one twice."""
        operators, table = self.files.operators(path), self.table(reference)
        if table.missing(operators):
            with quiet.alone():  # whoever was alone before may have priced some meanwhile
                missing = table.missing(operators)
                if missing:
                    priced = self.files.prices(path, missing, reference.path)
                    alone = dict.fromkeys(missing, Price(UNPRICED_MS, UNPRICED_MS))
                    table.put(operators, {**alone, **priced})
        return operators

    def _model(self, artifact: Artifact, reference: Artifact) -> Priced:
        table = self.table(reference)
        told = ((o, table.get(o.key)) for o in self._priced(artifact.path, reference))
        parts = (Part.of(operator, price) for operator, price in told if price)
        return Priced(tuple(parts), artifact.size_bytes / 1e6)
