"""Fits a model's correction on as many policies of it as that takes.

Policies are measured as whole files, a lot at a time, each lot in turns with the uncompressed
model: until what they say of one another is close enough, there are no more, or it has taken long.
What the runtime cannot run tells nothing, and a file that was measured before tells nothing new.
Knows nothing of how a file is priced or timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import monotonic

from evaluation.latency import correction
from evaluation.latency.correction import PLAIN, Correction, Measured
from evaluation.latency.parts import Priced
from evaluation.measuring.limits import MeasurementError
from evaluation.target import Artifact, Timing

LOT = 12  # policies that are measured together
FEW = 4  # files measured, below which a small departure is luck
CLOSE = 0.03  # of a latency: a departure with which it is enough
LONG_S = 120.0  # after which no other lot is begun
MORE = "predicts within {:.0f} % after {} policies; measuring a few more …"

Others = Callable[[], Iterable[Artifact]]  # files of a model under some policies, as it is asked
Tell = Callable[[str], None]


@dataclass
class Fitting:
    """A model's uncompressed file, and how files are priced and timed."""

    reference: Artifact
    priced: Callable[[Artifact], Priced]
    timed: Callable[[Sequence[Path]], list[Timing]]  # against the first
    floor_ms: Callable[[], float]  # known once a file has been priced
    _measured: list[Measured] = field(default_factory=list, init=False)

    def fitted(self, others: Iterable[Artifact], tell: Tell) -> Correction:
        """What was fitted in the end; `tell` hears of every lot but the first."""
        began, drawn = monotonic(), self._distinct(others)
        self._measure(list(islice(drawn, LOT)))
        while True:
            found = self._fit()
            enough = len(self._measured) > FEW and found.departure <= CLOSE
            if enough or monotonic() - began > LONG_S:
                return found
            lot = list(islice(drawn, LOT))
            if not lot:
                return found
            tell(MORE.format(100 * found.departure, len(self._measured) - 1))
            self._measure(lot)

    def _fit(self) -> Correction:
        """What is known so far: nothing of how others depart, where there are none."""
        found = correction.fit(self._measured, self.floor_ms())
        return found if len(self._measured) > 1 else replace(found, departure=PLAIN.departure)

    def _distinct(self, others: Iterable[Artifact]) -> Iterator[Artifact]:
        """Those that are measured, each as soon as it is asked for."""
        known = {self.reference.signature}
        for artifact in others:
            if artifact.signature not in known:
                known.add(artifact.signature)
                yield artifact

    def _measure(self, lot: Sequence[Artifact]) -> None:
        """Price and time a lot; the uncompressed model counts once."""
        models = {self.reference.path: self.priced(self.reference)}
        for artifact in lot:
            with suppress(MeasurementError):
                models[artifact.path] = self.priced(artifact)
        timings = self._together(list(models))
        took = timings[self.reference.path].median_ms
        if self._measured:
            took = self._measured[0].milliseconds
            del timings[self.reference.path]
        for path, timing in timings.items():
            spread = timing.speedup_spread / timing.speedup
            self._measured.append(Measured(models[path], took / timing.speedup, spread))

    def _together(self, paths: Sequence[Path]) -> dict[Path, Timing]:
        """What each file takes beside the first; without those that stop the runtime."""
        try:
            return dict(zip(paths, self.timed(paths), strict=True))
        except MeasurementError:
            able = [path for path in paths[1:] if self._runs(path)]
            if len(able) == len(paths) - 1:  # it is none of them alone
                raise
            return self._together([paths[0], *able])

    def _runs(self, path: Path) -> bool:
        try:
            self.timed([self.reference.path, path])
        except MeasurementError:
            return False
        return True
