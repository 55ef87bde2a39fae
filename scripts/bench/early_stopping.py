"""What early stopping saves: fronts and virtual seconds of simulated searches, with and without.

Results are a formula's, so nothing here is a measurement of a model: it makes policies that start
slowly and those that start quickly, and says what a scheduler does to them.

    python scripts/bench/early_stopping.py --trials 150 --seeds 3 stopping.keep=0.33
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
    given, overrides = parser.parse_known_args(arguments)
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
                        made = prepare(compose(["engine=simulated", *settings]))
                    found.append(_search(settings, made, given.trials, given.workers, seed))
            seconds = mean(one.seconds for one in found)
            whole = whole or seconds
            print(
                f"{sampler:8} {stopping:8} {mean(one.share for one in found):13.4f}"
                f" {seconds:9.0f} {seconds / whole:8.2f} {mean(one.stopped for one in found):8.1f}"
                f" {mean(one.driver for one in found):9.1f}",
                flush=True,
            )


def _search(
    words: Sequence[str], made: tuple[Evaluator, Space], trials: int, workers: int, seed: int
) -> Outcome:
    settings = compose(["engine=simulated", f"budget.trials={trials}", *words])
    engine = SimulatedEngine(workers=workers, seed=seed)
    search = assemble(settings, *made, How(instantiate(settings.sampler, "sampler"), engine))
    Path(search.folder).mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    rows = run_search(search)
    share = front.find(rows).share or 0.0
    taken = time.perf_counter() - begun
    return Outcome(share, engine.elapsed, counts(rows)["stopped_early"], taken)


if __name__ == "__main__":
    main()
