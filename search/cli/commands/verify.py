"""`paredown verify`: exported files measured again, against what was recorded of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.cli import studies
from search.cli.opened import open_study

if TYPE_CHECKING:
    from search.exports.verify import Check

DEPARTED = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY and how far a quality may depart."""
    studies.argument(parser)
    parser.add_argument(
        "--tolerance", type=float, help="how far a quality may lie from its record; default: 0.01"
    )


def run(given: argparse.Namespace) -> int:
    """Print every check; 1 where one departs too far."""
    from search.exports.verify import TOLERANCE, verify

    study = open_study(given.study)
    tolerance = TOLERANCE if given.tolerance is None else given.tolerance
    checks = verify(study.rows, study.folder, study.evaluator, tolerance)
    _print(checks)
    departed = [check for check in checks if not check.passed]
    print(
        f"{len(departed)} of {len(checks)} checks depart by more than {tolerance:g}."
        if departed
        else f"All {len(checks)} checks hold within {tolerance:g}."
    )
    return DEPARTED if departed else 0


def _print(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("file", "quality", "record", "recorded", "measured", ""):
        table.add_column(name, overflow="fold")
    for check in checks:
        measured = f"{check.measured.value:.4g}" if check.measured else "gone"
        verdict = "holds" if check.passed else "DEPARTS"
        note = f"{verdict}: {check.note}" if check.note else verdict
        table.add_row(
            str(check.file), check.name, check.record, f"{check.recorded:.4g}", measured, note
        )
    Console().print(table)
