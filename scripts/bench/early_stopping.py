"""What early stopping saves: fronts and seconds of searches, with and without.

    python scripts/bench/early_stopping.py --trials 150 --seeds 3 stopping.keep=0.33
    python scripts/bench/early_stopping.py --engine local --trials 96 --seeds 1 --samplers random

Simulated, results are a formula's, with policies that start slowly and those that start quickly:
nothing is measured of a model, and seconds are a virtual clock's. On this machine's own engine they
are measured, and seconds are the search's. The random sampler asks for the same policies whatever
is reported, so that stopping alone makes the difference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from evaluation.evaluator import Evaluator
from search.configuration.build import instantiate
from search.configuration.compose import compose
from search.driver.driver import run_search
from search.engines.simulated import SimulatedEngine
from search.front import front
from search.front.front_files import counts
from search.run import How, assemble, prepare
from search.space.space import Space

EPOCHS = "space.recovery.epochs=[0,4,12]"


@dataclass(frozen=True)
class Outcome:
    """One search."""

    share: float  # hypervolume
    seconds: float  # on the virtual clock
    stopped: int
    driver: float  # real seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a sampler and way of stopping."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--engine", choices=["simulated", "local"], default="simulated")
    given, overrides = parser.parse_known_args(arguments)
    engine = [f"engine={given.engine}", f"engine.workers={given.workers}"]
    print("sampler  stopping   hypervolume   seconds  of none  stopped  driver s")
    made: tuple[Evaluator, Space] | None = None
    for sampler in given.samplers:
        whole = 0.0
        for stopping in ("none", "rungs"):
            words = [f"sampler={sampler}", f"stopping={stopping}", EPOCHS]
            words += [w for w in overrides if stopping == "rungs" or "stopping." not in w]
            found = []
            for seed in range(given.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    settings = [*words, f"seed={seed}", f"output_dir={folder}"]
                    if made is None:
                        made = prepare(compose([*engine, *settings]))
                    found.append(_search([*engine, *settings], made, given.trials, seed))
            seconds = mean(one.seconds for one in found)
            whole = whole or seconds
            print(
                f"{sampler:8} {stopping:8} {mean(one.share for one in found):13.4f}"
                f" {seconds:9.0f} {seconds / whole:8.2f} {mean(one.stopped for one in found):8.1f}"
                f" {mean(one.driver for one in found):9.1f}",
                flush=True,
            )


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
    seconds = engine.elapsed if isinstance(engine, SimulatedEngine) else taken
    return Outcome(front.find(rows).share or 0.0, seconds, counts(rows)["stopped_early"], taken)


if __name__ == "__main__":
    main()
