"""The report on surrogates: their rank correlations, and what probes cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.study.ledger import ProbeRow, StudyRows
from search.views import report
from search.views.surrogates import surrogates
from tests.search.views.studies import study

PROBES = (
    ProbeRow("a", "scores", 100, 1.0, 60.0),
    ProbeRow("b", "changes", 20, 2.5, 30.0, reason="ValueError: nothing to probe."),
)


def thought() -> StudyRows:
    """A study whose guesses are the very damage, of one surrogate, and its opposite."""
    rows = study()
    trials = []
    for row in rows.trials:
        if row.values is not None:
            guessed = {"gauss_newton": row.values[0], "additive": -row.values[0]}
            phase = "explore" if row.number % 2 else "hull"
            row = replace(row, guessed=guessed, phase=phase)
        trials.append(row)
    return replace(rows, trials=tuple(trials), probes=PROBES)


def test_correlations_are_told_of_each_surrogate() -> None:
    found = surrogates(thought())
    assert found is not None
    (right, *figures), (wrong, *others) = found.lines
    assert right == "squared gradients"
    assert all(figure.startswith("1.00 (") for figure in figures)
    assert wrong == "sum of the damages of single changes"
    assert all(figure.startswith("-1.00 (") for figure in others)


def test_probes_are_told_with_their_cost_and_failures() -> None:
    found = surrogates(thought())
    assert found is not None
    assert found.probes.startswith("120 single changes probed in 1 min 30 s of work")
    assert "3.5 evaluations" in found.probes
    assert "1 probe failed: ValueError: nothing to probe." in found.probes


def test_other_studies_have_none_and_their_page_says_nothing(tmp_path: Path) -> None:
    assert surrogates(study()) is None
    assert "beforehand" not in report.write(study(), tmp_path).read_text()
    assert "beforehand" in report.write(thought(), tmp_path).read_text()
