"""What early stopping saves: fronts and seconds of searches, with and without.

    python scripts/bench/early_stopping.py --trials 150 --seeds 3 stopping.keep=0.33
    python scripts/bench/early_stopping.py --engine local --trials 96 --seeds 1 --samplers random

Simulated, results are a formula's, with policies that start slowly and those that start quickly:
nothing is measured of a model, and seconds are a virtual clock's. On this machine's own engine they
are measured, and seconds are the search's. The random sampler asks for the same policies whatever
is reported, so that stopping alone makes the difference.

Figures beside each other: what the same number of trials takes; when the hypervolume is there (to
1 %) that the search without stopping ends with; and, where files are made, the front's hypervolume
by their qualities on the held-out test split: of a few hundred samples, one answered right by luck
puts a trial on the front that no rule could have foreseen there.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import mean

from evaluation.evaluator import Evaluator
from search.configuration.build import instantiate
from search.configuration.compose import compose
from search.driver.driver import run_search
from search.engines.simulated import SimulatedEngine
from search.front import front
from search.front.front_files import counts
from search.front.validate import artifact_file
from search.run import How, assemble, prepare
from search.space.space import Space
from search.study.ledger import StudyRows, TrialRow

EPOCHS = "space.recovery.epochs=[0,4,12]"
NEARLY = 0.99  # of a hypervolume is the same


@dataclass(frozen=True)
class Outcome:
    """One search."""

    curve: tuple[tuple[float, float], ...]  # seconds, and the hypervolume then
    seconds: float  # the search's, or on the virtual clock
    stopped: int
    driver: float  # real seconds
    held_out: float | None = None  # the hypervolume by the files' qualities on the test split

    @property
    def share(self) -> float:
        """The hypervolume in the end."""
        return self.curve[-1][1]

    def reaches(self, share: float) -> float:
        """The second in which a hypervolume is there; infinite where it never is."""
        return next((second for second, there in self.curve if there >= share), math.inf)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a sampler and way of stopping."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--engine", choices=["simulated", "local"], default="simulated")
    given, overrides = parser.parse_known_args(arguments)
    overrides += [word for word in given.samplers if "=" in word]
    given.samplers = [word for word in given.samplers if "=" not in word]
    engine = [f"engine={given.engine}", f"engine.workers={given.workers}"]
    print(
        "sampler      stopping  hypervolume  held out  seconds  of none  same volume"
        "  stopped  driver s"
    )
    made: tuple[Evaluator, Space] | None = None
    for sampler in given.samplers:
        without: list[Outcome] = []
        for stopping in ("none", "rungs"):
            words = [f"sampler={sampler}", f"stopping={stopping}", EPOCHS]
            words += [w for w in overrides if stopping == "rungs" or "stopping." not in w]
            found = []
            for seed in range(given.first_seed, given.first_seed + given.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    settings = [*words, f"seed={seed}", f"output_dir={folder}"]
                    if made is None:
                        made = prepare(compose([*engine, *settings]))
                    found.append(_search([*engine, *settings], made, given.trials, seed))
            without = without or found
            print(_line(sampler, stopping, found, without), flush=True)


def _line(sampler: str, stopping: str, found: list[Outcome], without: list[Outcome]) -> str:
    """The figures of one way of stopping, beside those of none with the same seeds."""
    pairs = list(zip(found, without, strict=True))
    ends = mean(one.seconds for one, _ in pairs) / mean(other.seconds for _, other in pairs)
    same = [one.reaches(NEARLY * other.share) / other.seconds for one, other in pairs]
    held = [one.held_out for one in found if one.held_out is not None]
    return (
        f"{sampler:12} {stopping:8} {mean(one.share for one in found):12.4f}"
        f" {f'{mean(held):.4f}' if held else '-':>9}"
        f" {mean(one.seconds for one in found):8.0f} {ends:8.2f} {_reached(same):>12}"
        f" {mean(one.stopped for one in found):8.1f} {mean(one.driver for one in found):9.1f}"
    )


def _reached(shares: list[float]) -> str:
    """The mean of those that got there, and how many did where not all."""
    there = [share for share in shares if math.isfinite(share)]
    if not there:
        return "never"
    few = f" {len(there)}/{len(shares)}" if len(there) < len(shares) else ""
    return f"{mean(there):.2f}{few}"


def _search(words: Sequence[str], made: tuple[Evaluator, Space], trials: int, seed: int) -> Outcome:
    settings = compose([f"budget.trials={trials}", *words])
    engine = instantiate(settings.engine, "engine")
    if isinstance(engine, SimulatedEngine):
        engine.seed = seed
    search = assemble(settings, *made, How(instantiate(settings.sampler, "sampler"), engine))
    Path(search.folder).mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    rows = run_search(search)
    taken = time.perf_counter() - begun
    if isinstance(engine, SimulatedEngine):
        curve = _curve(rows, _worked(rows, engine.elapsed))
        return Outcome(curve, engine.elapsed, counts(rows)["stopped_early"], taken)
    curve, held = _curve(rows, _clocked(rows)), _held_out(rows, Path(search.folder), made[0])
    return Outcome(curve, taken, counts(rows)["stopped_early"], taken, held)


def _held_out(rows: StudyRows, folder: Path, evaluator: Evaluator) -> float | None:
    """The front's hypervolume with what its files get right of the test split."""
    place = [o.name for o in rows.objectives].index(evaluator.task.metric.name)
    members = []
    for row in front.find(rows).members:
        file = artifact_file(row, folder, evaluator)
        values = list(row.values or ())
        values[place] = evaluator.exported_quality(file, "test").value
        members.append(replace(row, values=tuple(values)))
    return front.find(replace(rows, trials=tuple(members))).share


def _ordered(rows: StudyRows) -> list[TrialRow]:
    """The trials in the order in which they ended."""
    return sorted((row for row in rows.trials if row.finished), key=lambda row: str(row.finished))


def _worked(rows: StudyRows, whole: float) -> list[float]:
    """When each trial ended, if work went on evenly until the virtual clock stood still."""
    worked = list(accumulate(row.seconds for row in _ordered(rows)))
    return [whole * seconds / worked[-1] for seconds in worked]


def _clocked(rows: StudyRows) -> list[float]:
    """When each trial ended, by the clock."""
    begun = min(row.started for row in rows.trials if row.started)
    return [(row.finished - begun).total_seconds() for row in _ordered(rows) if row.finished]


def _curve(rows: StudyRows, ends: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The hypervolume after each trial."""
    ordered = _ordered(rows)
    shares = (
        front.find(replace(rows, trials=tuple(ordered[: n + 1]))).share or 0.0
        for n in range(len(ordered))
    )
    return tuple(zip(ends, shares, strict=True))


if __name__ == "__main__":
    main()
