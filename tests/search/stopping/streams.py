"""Studies that exist in numbers only: trials that report to a scheduler, many at once."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from search.stopping.reports import Decision, Report
from search.stopping.scheduler import Scheduler

Measure = Callable[[int, int], Report]  # trial, rung


@dataclass
class Stream:
    """`workers` at a virtual clock; promotions go before new trials, as in a search."""

    scheduler: Scheduler
    measure: Measure
    rungs: int
    trials: int
    workers: int
    seed: int = 0
    finished: list[int] = field(default_factory=list)
    stopped: dict[int, tuple[int, str]] = field(default_factory=dict)  # rung, reason
    told: list[Decision] = field(default_factory=list)
    waits: dict[int, int] = field(default_factory=dict)  # trial -> reports when it became ready
    longest_wait: int = 0  # of a promoted trial, in reports, until a worker took it
    work: dict[int, int] = field(default_factory=dict)  # jobs by rung

    def run(self) -> Stream:
        """Every trial to its end."""
        random = Random(self.seed)
        ready: deque[tuple[int, int]] = deque()
        busy: list[tuple[float, int, int]] = []
        at: dict[int, int] = {}
        asked, now, reports = 0, 0.0, 0
        while True:
            while len(busy) < self.workers and (ready or asked < self.trials):
                if ready:
                    trial, rung = ready.popleft()
                    waited = reports - self.waits.pop(trial)
                    self.longest_wait = max(self.longest_wait, waited)
                else:
                    trial, rung, asked = asked, 0, asked + 1
                at[trial] = rung
                self.work[rung] = self.work.get(rung, 0) + 1
                heapq.heappush(busy, (now + random.expovariate(1 / 2**rung), trial, rung))
            if not busy:
                for decision in self.scheduler.drain():
                    self._heed(decision, at, ready, reports)
                if ready:
                    continue
                break
            now, trial, rung = heapq.heappop(busy)
            reports += 1
            report = self.measure(trial, rung)
            if rung == self.rungs - 1:
                self.scheduler.finish(report)
                self.finished.append(trial)
                continue
            for decision in self.scheduler.report(report):
                self._heed(decision, at, ready, reports)
        return self

    def _heed(
        self, decision: Decision, at: dict[int, int], ready: deque[tuple[int, int]], reports: int
    ) -> None:
        self.told.append(decision)
        if decision.verdict == "go_on":
            ready.append((decision.trial, at[decision.trial] + 1))
            self.waits[decision.trial] = reports
        elif decision.verdict == "stop":
            self.stopped[decision.trial] = (at[decision.trial], decision.reason or "")
            self.scheduler.drop(decision.trial)


def curves(seed: int, *, gain: float = 0.3, noise: float = 0.02) -> Measure:
    """Error against cost: a part of the excess error goes away with each rung."""

    def measure(trial: int, rung: int) -> Report:
        random = Random(f"{seed} {trial}")
        cost, excess = random.random(), random.expovariate(3.0)
        error = (1 - cost) ** 2 * 0.5 + excess * gain**rung
        error += Random(f"{seed} {trial} {rung}").gauss(0, noise / 2**rung)
        return Report(trial, rung, (error, cost), (noise / 2**rung, 0.0))

    return measure
