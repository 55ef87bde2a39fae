"""Hypervolume against evaluations: how many each sampler needs, on the experiments by name.

    python scripts/bench/search_efficiency.py run [--minutes 10] [--seeds 3] [--only WORD ...]
    python scripts/bench/search_efficiency.py table [--docs docs]

`run` does what is missing, one process a run, until the minutes are over; started again it goes
on. Each run is a search as `paredown search` does it, budget, baselines and probes included, but
in one process and with a cache of evaluations by policy: a policy's figures follow from the policy
alone, so that a run that asks for a known one is answered at once and charged in full. Only quality
and size are found out. `table` reads the results and writes docs/benchmarks.md and a plot.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXPERIMENTS = ("bits_resnet20", "bits_mobilenet", "joint_resnet20")
OUT = Path("outputs/bench/search_efficiency")


@dataclass(frozen=True)
class Contender:
    """A sampler with its settings, and whether it is given the uniform policies to start from."""

    words: tuple[str, ...]
    told: str
    uniform: bool = False
    evaluations: int = 200


CONTENDERS = {
    "random": Contender(("sampler=random",), "random"),
    "qmc": Contender(("sampler=qmc",), "quasi-random (Sobol)"),
    "nsga2": Contender(("sampler=nsga2",), "NSGA-II"),
    "nsga2_uniform": Contender(("sampler=nsga2",), "NSGA-II, started from uniform policies", True),
    "tpe": Contender(("sampler=tpe", "sampler.multivariate=false"), "TPE, Optuna's defaults"),
    "tpe_40": Contender(
        ("sampler=tpe", "sampler.startup_trials=40"), "TPE, multivariate, 40 start-ups"
    ),
    "tpe_uniform": Contender(("sampler=tpe",), "TPE, started from uniform policies", True),
    "gp": Contender(("sampler=gp",), "Gaussian process", evaluations=60),
    "sensitivity": Contender(("sampler=sensitivity",), "sensitivity"),
}


@dataclass(frozen=True)
class Run:
    """One sampler on one experiment with one seed."""

    experiment: str
    sampler: str
    seed: int

    @property
    def name(self) -> str:
        """Also the name of its files."""
        return f"{self.experiment}-{self.sampler}-{self.seed}"

    def result(self, out: Path) -> Path:
        """Where its result lies once it is done."""
        return out / "runs" / f"{self.name}.json"


def runs(seeds: int, only: list[str]) -> Iterator[Run]:
    """All runs, the first seed of everything first; of those named, if any are."""
    for seed in range(seeds):
        for experiment in EXPERIMENTS:
            for sampler in CONTENDERS:
                run = Run(experiment, sampler, seed)
                if not only or any(word in (experiment, sampler) for word in only):
                    yield run


def run_missing(given: argparse.Namespace) -> None:
    """Run what has no result yet, until the time is over."""
    ends = time.monotonic() + given.minutes * 60
    for run in runs(given.seeds, given.only):
        if run.result(given.out).exists():
            continue
        if time.monotonic() >= ends:
            print("Out of time; the same command goes on.")
            return
        words = [sys.executable, __file__, "one", run.experiment, run.sampler, str(run.seed)]
        words += ["--out", str(given.out), "--override", *given.override]
        if given.evaluations:
            words += ["--evaluations", str(given.evaluations)]
        started = time.monotonic()
        done = subprocess.run(words, check=False)
        print(
            f"{run.name}: {'done' if not done.returncode else 'failed'}, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )


def run_one(given: argparse.Namespace) -> None:
    """One run, in this process."""
    from search_efficiency_run import found

    run = Run(given.experiment, given.sampler, given.seed)
    contender = CONTENDERS[run.sampler]
    evaluations = min(given.evaluations or contender.evaluations, contender.evaluations)
    words = [f"experiment={run.experiment}", *contender.words, f"seed={run.seed}", *given.override]
    result = found(words, run.name, evaluations, contender.uniform, given.out)
    path = run.result(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def write_table(given: argparse.Namespace) -> None:
    """The table, the plot and what the documentation says of them."""
    from search_efficiency_table import write

    results = {}
    for run in runs(100, []):
        if run.result(given.out).exists():
            results[run] = json.loads(run.result(given.out).read_text())
    told = {name: contender.told for name, contender in CONTENDERS.items()}
    print(write(results, told, given.docs))


def main() -> None:
    """Read the words and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    several = commands.add_parser("run", help="run what is missing")
    several.add_argument("--minutes", type=float, default=10)
    several.add_argument("--seeds", type=int, default=3)
    several.add_argument("--only", nargs="*", default=[], help="experiments or samplers")
    several.set_defaults(do=run_missing)
    one = commands.add_parser("one", help="one run, in this process")
    one.add_argument("experiment", choices=EXPERIMENTS)
    one.add_argument("sampler", choices=tuple(CONTENDERS))
    one.add_argument("seed", type=int)
    one.set_defaults(do=run_one)
    for command in (several, one):
        command.add_argument("--evaluations", type=int, help="fewer than the sampler's own")
        command.add_argument(
            "--override",
            nargs="*",
            default=[],
            help="such as task.seed=1, with an --out of its own",
        )
    table = commands.add_parser("table", help="write what is there")
    table.add_argument("--docs", type=Path, default=Path("docs"))
    table.set_defaults(do=write_table)
    for command in (several, one, table):
        command.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
