from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from search.front import front
from search.front.front_files import Validation
from search.front.rows_table import front_table
from search.views.progress import LineProgress, LiveProgress, Tally, panel, progress_listener
from tests.search.views import studies

ROWS = studies.study(12)


def early(trials: int):
    return replace(ROWS, trials=ROWS.trials[:trials])


def text(renderable: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_without_a_terminal_each_trial_is_one_plain_line() -> None:
    console = Console(file=io.StringIO(), width=40)
    listener = progress_listener(console)
    assert isinstance(listener, LineProgress)
    listener.started(early(8), 12)
    for row in ROWS.trials[8:10]:
        listener.trial_finished(row)
    listener.closed()
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("8 of 12 trials done")
    assert lines[1].startswith("[9/12] trial 8  error ")
    assert "failed: Recovery diverged" in lines[2]


def test_on_a_terminal_the_panel_is_redrawn_and_left_in_its_last_state() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    listener = progress_listener(console)
    assert isinstance(listener, LiveProgress)
    listener.started(early(3), 12)
    for row in ROWS.trials[3:]:
        listener.trial_finished(row)
    listener.closed()
    assert "12/12 trials" in console.file.getvalue()
    listener.closed()


def test_the_panel_tells_bests_hypervolume_and_failures() -> None:
    tally = Tally(early(2), 12)
    for row in ROWS.trials[2:]:
        tally.add(row)
    shown = text(panel(tally))
    assert tally.share == front.find(ROWS).share
    assert f"hypervolume {100 * tally.share:.1f} %" in shown
    assert "1 failure" in shown
    assert "the loss became NaN" in shown
    best = min(ROWS.complete(), key=lambda row: row.values[2])
    assert f"trial {best.number}" in shown


def test_time_left_is_what_this_runs_trials_took() -> None:
    now = [100.0]
    tally = Tally(early(4), 12, clock=lambda: now[0])
    assert tally.left() is None
    now[0] += 20
    tally.add(ROWS.trials[4])
    tally.add(ROWS.trials[5])
    assert tally.left() == 60.0  # six trials to go, ten seconds each
    now[0] += 15
    assert tally.left() == 45.0


def test_the_table_says_best_uniform_and_infeasible() -> None:
    rows = studies.study(40)
    found = front.find(rows)
    shown = text(front_table(rows, found, studies.validation(list(found.members), rows.trials[0])))
    assert f"* {found.knee.number}" in shown
    assert "uncompressed" in shown
    broken = replace(found, members=(replace(found.members[0], feasible=False),))
    assert "breaks a constraint" in text(front_table(rows, broken, Validation()))


def test_the_table_fits_eighty_columns() -> None:
    rows = studies.study(40)
    found = front.find(rows)
    table = front_table(rows, found, studies.validation(list(found.members), rows.trials[0]), 80)
    shown = text(table, width=80)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
