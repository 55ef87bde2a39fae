"""What a thousand workers do to a search: whether promotions starve, and what decisions take.

    python scripts/bench/crowd.py --workers 1000 --trials 10000 [sampler=tpe …]

A whole search on a virtual clock, study, rungs and all: only the evaluations are a formula's. A
promotion waits from the report that decides it until a worker takes it; decisions and the driver's
own seconds for each trial are real ones of this machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np

from search.configuration.build import instantiate
from search.configuration.compose import compose
from search.driver.driver import run_search
from search.driver.trial_job import Job, JobOutcome, WorkerSpec
from search.engines.base import JobSource
from search.engines.simulated import SimulatedEngine
from search.front.front_files import counts
from search.run import How, assemble, prepare
from search.stopping.reports import Decision, Report
from search.stopping.scheduler import Scheduler


@dataclass
class Watch:
    """What is noted on the way: processor seconds of decisions, virtual seconds of waits."""

    engine: SimulatedEngine
    decisions: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    promoted: dict[int, float] = field(default_factory=dict)

    def follow(self) -> None:
        """Time every report to a scheduler, and note whom it promotes."""
        report = Scheduler.report

        def watched(scheduler: Scheduler, told: Report) -> list[Decision]:
            begun = time.process_time()
            found = report(scheduler, told)
            self.decisions.append(time.process_time() - begun)
            promoted = (d.trial for d in found if d.verdict == "go_on")
            self.promoted.update(dict.fromkeys(promoted, self.engine.elapsed))
            return found

        Scheduler.report = watched  # type: ignore[method-assign]


@dataclass
class Watched:
    """A source whose jobs are noted as they are taken."""

    source: JobSource
    watch: Watch

    def next_job(self) -> Job | None:
        """The next one."""
        job = self.source.next_job()
        if job is not None and job.number in self.watch.promoted:
            since = self.watch.promoted.pop(job.number)
            self.watch.waits.append(self.watch.engine.elapsed - since)
        return job

    def finish(self, outcome: JobOutcome) -> None:
        """As the source does."""
        self.source.finish(outcome)

    def remaining(self) -> int:
        """As the source does."""
        return self.source.remaining()


class WatchedEngine(SimulatedEngine):
    """The simulated engine, its jobs watched."""

    watch: Watch

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain."""
        super().run(spec, Watched(source, self.watch))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what there was to see."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=10_000)
    given, overrides = parser.parse_known_args(arguments)
    engine = WatchedEngine(workers=given.workers)
    engine.watch = Watch(engine)
    engine.watch.follow()
    with tempfile.TemporaryDirectory() as folder:
        words = ["engine=simulated", "sampler=random", "stopping=rungs", *overrides]
        settings = compose([*words, f"budget.trials={given.trials}", f"output_dir={folder}"])
        made = prepare(settings)
        how = How(instantiate(settings.sampler, "sampler"), engine)
        search = assemble(settings, *made, how)
        Path(search.folder).mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        rows = run_search(search)
        seconds = time.perf_counter() - begun
    watch, told = engine.watch, counts(rows)
    took = 1000 * np.array(watch.decisions)
    print(f"trials: {told}, {engine.elapsed:.0f} virtual s on {given.workers} workers")
    print(f"driver: {1000 * seconds / len(rows.trials):.0f} ms a trial")
    print(
        f"decisions: {len(took)}, {took.mean():.2f} ms on average, 99 % below"
        f" {np.quantile(took, 0.99):.2f} ms, at most {took.max():.2f} ms"
    )
    print(
        f"promotions: {len(watch.waits)} taken up, {len(watch.promoted)} not; waited"
        f" {mean(watch.waits):.1f} virtual s on average, {max(watch.waits):.1f} at most"
    )


if __name__ == "__main__":
    main()
