"""A running study as people follow it: a live panel on a terminal, else one line a trial.

Works on rows and knows nothing of the engine. Time left is what the trials of this run took, for
those that remain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.front import front
from search.study.ledger import Listener, Objective, StudyRows, TrialRow
from search.views.figures import count, duration, title, words

if TYPE_CHECKING:
    from rich.live import Live

Clock = Callable[[], float]


def progress_listener(console: Console) -> Listener:
    """The listener that suits the console."""
    return LiveProgress(console) if console.is_terminal else LineProgress(console)


class Tally:
    """What is told of a study so far."""

    def __init__(self, rows: StudyRows, total: int, clock: Clock = time.monotonic) -> None:
        self.rows, self.total = rows, total
        self.before = len(front.told(rows))
        self.share = front.find(rows).share  # the hypervolume's share of its box
        self._clock, self._start = clock, clock()
        self._told = 0.0  # seconds until the last trial was told
        self.probing = ""  # what is being found out before the next trial

    def add(self, row: TrialRow) -> None:
        """Count a trial in."""
        others = tuple(r for r in self.rows.trials if r.number != row.number)
        reference = self.rows.reference
        if reference is None and row.baseline == "fp32":
            reference = row.measurement
        self.rows = replace(self.rows, reference=reference, trials=(*others, row))
        self.share = front.find(self.rows).share
        self._told = self.elapsed

    @property
    def done(self) -> int:
        """Finished trials, those of earlier runs included."""
        return len(front.told(self.rows))

    @property
    def elapsed(self) -> float:
        """Seconds since this run began."""
        return self._clock() - self._start

    def left(self) -> float | None:
        """Seconds that the remaining trials will take, once one of this run is known."""
        now = self.done - self.before
        if not now:
            return None
        whole = self._told / now * max(self.total - self.done, 0)
        return max(whole - (self.elapsed - self._told), 0.0)

    def failures(self) -> list[TrialRow]:
        """The failed trials."""
        return [row for row in self.rows.trials if row.state == "failed"]

    def best(self, index: int) -> TrialRow | None:
        """The feasible trial that is best by one objective."""
        rows = [row for row in self.rows.complete() if row.feasible]
        objectives = self.rows.objectives
        return min(rows, key=lambda row: front.losses(row, objectives)[index], default=None)


class LineProgress:
    """One plain line a trial."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally: Tally | None = None

    def started(self, rows: StudyRows, total: int) -> None:
        """Say where the study stands."""
        self._tally = Tally(rows, total)
        self._print(f"{rows.name}: {self._tally.before} of {total} trials done")

    def trial_finished(self, row: TrialRow) -> None:
        """Say how the trial ended."""
        if self._tally is None:
            return
        self._tally.add(row)
        left = self._tally.left()
        counted = f"[{self._tally.done}/{self._tally.total}]"
        remaining = f"  {duration(left)} left" if left else ""
        self._print(f"{counted} {line(row, self._tally.rows.objectives)}{remaining}")

    def probing(self, done: int, total: int) -> None:
        """Say that the network is being probed."""
        self._print(probes(done, total))

    def closed(self) -> None:
        """Nothing to put back."""

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """A panel that redraws in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally: Tally | None = None
        self._last: TrialRow | None = None
        self._live: Live | None = None

    def started(self, rows: StudyRows, total: int) -> None:
        """Open the panel."""
        from rich.live import Live

        self._tally = tally = Tally(rows, total)
        self._live = Live(
            get_renderable=lambda: panel(tally, self._last),
            console=self._console,
            refresh_per_second=2,
        )
        self._live.start()

    def trial_finished(self, row: TrialRow) -> None:
        """Redraw."""
        if self._tally is not None and self._live is not None:
            self._tally.add(row)
            self._last = row

    def probing(self, done: int, total: int) -> None:
        """Show that the network is being probed."""
        if self._tally is not None:
            self._tally.probing = probes(done, total) if done < total else ""

    def closed(self) -> None:
        """Leave the last state of the panel on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def panel(tally: Tally, last: TrialRow | None = None) -> RenderableType:
    """Done and total, time left, the best of each objective, hypervolume, failures."""
    left = tally.left()
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(tally.rows.name, style="bold"),
        ProgressBar(total=max(tally.total, 1), completed=tally.done, width=30),
        f"{tally.done}/{tally.total} trials",
        f"{duration(left)} left" if left else f"{duration(tally.elapsed)} so far",
    )
    return Group(head, _best(tally), _footer(tally, last))


def probes(done: int, total: int) -> str:
    """How far the probes are that the sampler waits for."""
    return f"probing the network: {done} of {count(total, 'probe')} answered"


def line(row: TrialRow, objectives: Sequence[Objective]) -> str:
    """How a trial ended, in one line."""
    name = f"trial {row.number}" + (f" ({row.baseline})" if row.baseline else "")
    if row.state != "complete" or row.values is None:
        state = row.state.replace("_", " ")
        return f"{name}  {state}: {row.reason or 'no reason given'}"
    values = "  ".join(
        f"{title(o.name)} {words(v, o.unit)}" for o, v in zip(objectives, row.values, strict=True)
    )
    infeasible = "" if row.feasible else "  breaks a constraint"
    return f"{name}  {values}  ({duration(row.seconds)}){infeasible}"


def _best(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 2))
    reference = tally.rows.reference
    for index, objective in enumerate(tally.rows.objectives):
        row = tally.best(index)
        value = words(row.values[index], objective.unit) if row and row.values else "-"
        base = words(reference[objective.name].value, objective.unit) if reference else ""
        table.add_row(
            Text(f"best {title(objective.name)}", style="dim"),
            Text(value, style="bold"),
            Text(f"trial {row.number}" if row else "", style="dim"),
            Text(f"uncompressed {base}" if base else "", style="dim"),
        )
    return table


def _footer(tally: Tally, last: TrialRow | None) -> Text:
    share = tally.share
    parts = [f"hypervolume {100 * share:.1f} % of its box"] if share is not None else []
    failures = tally.failures()
    parts.append(count(len(failures), "failure"))
    text = Text("  ".join(parts), style="dim")
    if failures:
        text.append(f"\nlast failure: {failures[-1].reason or 'no reason given'}", style="red")
    if tally.probing:
        text.append(f"\n{tally.probing}")
    if last is not None:
        text.append(f"\n{line(last, tally.rows.objectives)}", style="dim")
    return text
