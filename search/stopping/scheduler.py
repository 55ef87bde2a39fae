"""Who goes on to the next rung, who waits, who is stopped: decided as each trial reports.

A trial goes on where what it is expected to end with adds to the hypervolume of those that
finished; or where it is among the best of its rung by that expectation: non-dominated rank, then
crowding, whatever else is in flight. It is stopped where a finished trial dominates the best that
it can hope for, beyond both confidence intervals; where that best would add next to nothing; or
where it stands behind the best of its rung by more than chance. Else it waits. Unless hopeless, the
first few of a rung and length of training go on, and whoever is better there than all who did; a
random share of all runs through, so that what is expected rests on trials nobody picked. Of those
that are there to be compared with the most hopeful go on, one after another, and the others wait
for the front; all end in full that may add to it.

Values are numbers of which less is better. Knows nothing of a study but the box in which
hypervolume counts, nor how trials are run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist

import numpy as np

from search.stopping.compared import Compared
from search.stopping.experience import ALIKE, Endings
from search.stopping.prospects import DOMINATED, HOPELESS, Prospects
from search.stopping.reports import Decision, Report, Verdict
from search.stopping.rung import Rung, State
from search.study.problem import Box

GROWTH = 1.25  # expectations are renewed when a rung's experience has grown so much

STATES: dict[Verdict, State] = {"go_on": "went_on", "wait": "waits", "stop": "stopped"}

BEHIND = "Not among the best of its rung"


@dataclass(frozen=True)
class Rules:
    """What a scheduler decides by."""

    keep: float = 1 / 3  # of each rung goes on
    least: float = 0.002  # of the front's hypervolume, below which a trial adds next to nothing
    explore: float = 0.05  # of all trials run through whatever they report
    grace: int = 6  # trials of each rung and length that go on first
    confidence: float = 0.95
    seed: int = 0


@dataclass
class _Level:
    """A rung with what is known of it."""

    rung: Rung
    endings: Endings
    renew_at: int = 0


@dataclass
class Scheduler:
    """Decisions of one study; `quality` is the place of the one objective that rungs change."""

    objectives: int
    quality: int
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self._deviations = NormalDist().inv_cdf(0.5 + self.rules.confidence / 2)
        looks = self.objectives + 1
        self._levels: dict[int, _Level] = defaultdict(
            lambda: _Level(Rung(looks, self.objectives), Endings(looks, self.quality))
        )
        self._prospects = Prospects(
            self.objectives, self.quality, self._deviations, self.rules.least
        )
        self._seen: dict[int, dict[int, Report]] = defaultdict(dict)
        self._compared = Compared()
        self._ended = 0

    def within(self, box: Box) -> None:
        """Where hypervolume counts; until this is known any point that nothing beats adds to it."""
        self._prospects.within(box)

    def report(self, report: Report) -> list[Decision]:
        """What becomes of the trial, first, and of those that waited beside it."""
        renewed = self._renew(self._levels[report.rung])
        verdict, doom = self._judged_alone(report)
        held = verdict == "wait" and report.compared
        gone = self._enter(report, "stopped" if held else STATES[verdict])
        if held:
            self._compared.hold(report.trial)
        own = Decision(report.trial, "go_on")
        if verdict != "go_on":
            own = self._left(report.trial, report.rung, verdict, doom)
        decisions = {trial: self._let_go(trial, report.rung) for trial in gone}
        decisions.update({found.trial: found for found in self._review(report.rung)})
        own = decisions.pop(report.trial, own)
        if renewed:
            decisions.update({found.trial: found for found in self._reconsidered(report.rung)})
        if not report.compared:
            decisions.update({found.trial: found for found in self._release()})
        self._forget(d.trial for d in (own, *decisions.values()) if d.verdict == "stop")
        return [own, *decisions.values()]

    def recall(self, report: Report, *, went_on: bool) -> None:
        """Take in a report of an earlier run that was acted on then."""
        self._renew(self._levels[report.rung])
        self._enter(report, "went_on" if went_on else "stopped")

    def finish(self, report: Report) -> None:
        """A trial was evaluated in full: what it came to, and whom it dominates."""
        self._ended += 1
        self._compared.drop(report.trial)
        for rung, earlier in self._seen.pop(report.trial, {}).items():
            end = report.values[self.quality]
            self._levels[rung].endings.add(self._prospects.look(earlier), end)
        self._prospects.finish(report)

    def drop(self, trial: int) -> None:
        """A trial failed, or was stopped."""
        self._ended += 1
        self._compared.drop(trial)
        self._forget([trial])

    def drain(self) -> list[Decision]:
        """Nothing more will be reported unless somebody goes on: who does by all that is known now.

        Where nobody does, whoever waits is stopped, or goes on to be compared.
        """
        if found := [each for number in self._levels for each in self._reconsidered(number)]:
            return found
        found = [
            self._stop(trial, number, BEHIND)
            for number, level in self._levels.items()
            for trial in level.rung.dismiss()
        ]
        found += self._release(everybody=True)
        self._forget(decision.trial for decision in found if decision.verdict == "stop")
        return sorted(found, key=lambda decision: decision.trial)

    def runs_through(self, trial: int) -> bool:
        """Whether a trial is evaluated in full whatever it reports."""
        return Random(f"{self.rules.seed} {trial}").random() < self.rules.explore

    def _judged_alone(self, report: Report) -> tuple[Verdict, str | None]:
        """What becomes of a trial however it stands beside the others of its rung, and why."""
        if self.runs_through(report.trial):
            return "go_on", None
        if self._prospects.is_hopeless(report, self._endings(report)):
            return "stop", HOPELESS
        if self._is_graced(report):
            return "go_on", None
        if self._prospects.is_dominated(report, self._endings(report)):
            return "stop", DOMINATED
        return "go_on" if self._prospects.adds(report, self._endings(report)) else "wait", None

    def _is_graced(self, report: Report) -> bool:
        """Whether few that train about as long went on from its rung so far, or none as good as it.

        Of those to compare with, whether it takes no training, or waited already.
        """
        if report.compared:
            return report.length == 0 or self._compared.goes(report.trial)
        look = self._prospects.look(report)
        alike = self._levels[report.rung].rung.went_on(-1, look[-1], ALIKE)
        best = bool(np.all(alike[:, self.quality] > look[self.quality]))
        return len(alike) < self.rules.grace or (best and self.rules.grace > 0 >= report.broken)

    def _endings(self, report: Report) -> Endings:
        return self._levels[report.rung].endings

    def _enter(self, report: Report, state: State) -> list[int]:
        level, look = self._levels[report.rung], self._prospects.look(report)
        self._seen[report.trial][report.rung] = report
        point = self._prospects.expected(level.endings, look[None])[0]
        return level.rung.add(report.trial, look, point, report.broken, state)

    def _review(self, number: int) -> Iterator[Decision]:
        """Who of a rung need wait no more."""
        found = self._levels[number].rung.review(self.rules.keep, self._deviations)
        for trial in found.good:
            seen = self._seen[trial][number]
            doom = self._prospects.doom(seen, self._endings(seen))  # by one that finished meanwhile
            yield self._stop(trial, number, doom) if doom else Decision(trial, "go_on")
        for trial in found.hopeless:
            yield self._stop(trial, number, BEHIND)

    def _reconsidered(self, number: int) -> Iterator[Decision]:
        """Who waits at a rung, and by what is known now would not have had to."""
        rung = self._levels[number].rung
        for trial in rung.waiting():
            seen = self._seen[trial][number]
            if self._prospects.adds(seen, self._endings(seen)):
                rung.seat(trial)
                yield Decision(trial, "go_on")

    def _let_go(self, trial: int, number: int) -> Decision:
        """What becomes of one that waited while too many passed."""
        seen = self._seen[trial][number]
        if self._prospects.adds(seen, self._endings(seen)):
            return Decision(trial, "go_on")
        return self._stop(trial, number, BEHIND)

    def _release(self, *, everybody: bool = False) -> Iterator[Decision]:
        """Those to compare with who wait no more, as hopeless or as the most hopeful."""
        reports = {trial: self._latest(trial) for trial in self._compared.waiting()}
        for trial, report in reports.items():
            if doom := self._prospects.doom(report, self._endings(report)):
                self._compared.drop(trial)
                yield self._stop(trial, report.rung, doom)
        hopes = {
            trial: self._prospects.hope(reports[trial], self._endings(reports[trial]))
            for trial in self._compared.waiting()
        }
        for trial in self._compared.release(hopes.__getitem__, self._ended, everybody=everybody):
            self._levels[reports[trial].rung].rung.seat(trial)
            yield Decision(trial, "go_on")

    def _latest(self, trial: int) -> Report:
        seen = self._seen[trial]
        return seen[max(seen)]

    def _stop(self, trial: int, number: int, reason: str) -> Decision:
        """A trial ends at a rung, which it has reported."""
        return self._left(trial, number, "stop", reason)

    def _left(self, trial: int, number: int, verdict: Verdict, reason: str | None) -> Decision:
        """A trial does not go on from a rung, for now or for good."""
        level, look = self._levels[number], self._prospects.look(self._seen[trial][number])[None]
        if not level.endings.known(look)[0]:
            return Decision(trial, verdict, reason)
        expected = self._prospects.expected(level.endings, look)[0]
        return Decision(trial, verdict, reason, tuple(map(float, expected)))

    def _renew(self, level: _Level) -> bool:
        """Expect anew of everybody at a rung once much more is known of it; whether it is."""
        if not len(level.rung) or level.endings.seen <= level.renew_at:
            return False
        level.renew_at = int(level.endings.seen * GROWTH)
        level.rung.expect(self._prospects.expected(level.endings, level.rung.looks))
        return True

    def _forget(self, trials: Iterable[int]) -> None:
        for trial in trials:
            self._seen.pop(trial, None)
