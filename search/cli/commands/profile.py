"""`paredown profile`: the layers of a task's model timed on this device, as one portable table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from evaluation.profiling.profile import Profiled, Tell
    from evaluation.target import Precision

OUT = "out="


def arguments(parser: argparse.ArgumentParser) -> None:
    """The words that a search would take, and where the table goes."""
    parser.add_argument(
        "overrides", nargs="*", help="as for search: task=…, target=…, target.threads=…; out=FILE"
    )
    parser.add_argument("--out", type=Path, help="default: named after target and task")
    parser.add_argument(
        "--precision", action="append", default=[], help="such as w8a8; default: the target's all"
    )
    parser.add_argument("--policies", type=int, default=16, help="whole models to time; default 16")
    parser.add_argument("--config-dir", "-cd", type=Path, help="your own folder of YAML")


def run(given: argparse.Namespace) -> int:
    """Measure what the table lacks, fit, and say how well it predicts."""
    from rich.console import Console

    from search.cli.opened import evaluator_of
    from search.configuration.compose import compose

    out, overrides = _out(given)
    settings = compose(overrides, given.config_dir)
    wanted = tuple(_precision(word) for word in given.precision)
    from evaluation.profiling.profile import Profile, Settings

    asked = Settings(wanted, given.policies)
    evaluator = evaluator_of(settings)
    target, task = evaluator.target, evaluator.task
    path = out or Path(f"{target.name}-{task.name}.csv")
    console = Console()
    profile = Profile(target, task, path, asked)
    with _progress(console) as tell:
        found = profile.run(tell)
    _say(found, path, console)
    return 0


def _out(given: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """The table's path, told as an option or as a word among the overrides."""
    said = [word.removeprefix(OUT) for word in given.overrides if word.startswith(OUT)]
    rest = [word for word in given.overrides if not word.startswith(OUT)]
    if said and (given.out or len(said) > 1 or not said[0]):
        raise UserError("The table goes to one file: give out=FILE once.")
    return (Path(said[0]) if said else given.out), rest


def _precision(word: str) -> Precision:
    from evaluation.profiling.table_file import precision_of

    try:
        return precision_of(word)
    except ValueError as error:
        raise UserError(f"--precision: {error}.") from error


@contextmanager
def _progress(console: Console) -> Iterator[Tell]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=300) as bar:
        row = bar.add_task("", total=None)

        def tell(done: int, total: int, what: str) -> None:
            bar.update(row, completed=done, total=total, description=what)

        yield tell


def _say(found: Profiled, path: Path, console: Console) -> None:
    from evaluation.profiling.table_file import KINDS
    from evaluation.profiling.whole import DEPARTURE

    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    for words in found.left_out:
        say(f"left out: {words}")
    rows = len(found.table.of(*KINDS))
    told = ", ".join(f"{100 * each:+.1f} %" for each in found.departures)
    say(f"{path}: {rows} layers, priced for {found.table.facts['processor']}.")
    say(f"Its predictions of whole policies depart by {found.table.facts[DEPARTURE]}: {told}.")
    say(f"Copy it, and search there with target=table target.file={path.name}")
