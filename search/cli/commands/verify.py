"""`paredown verify`: exported files measured again, against what was recorded or simulated."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.cli.opened import Opened, open_study

if TYPE_CHECKING:
    from search.exports.lowering import FileCheck
    from search.exports.verify import Check

DEPARTED = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY, how far a quality may depart, and whether to look into the files."""
    parser.add_argument(
        "study",
        nargs="?",
        help="a study's folder, its name in outputs/, or one of its exports; default: the latest",
    )
    parser.add_argument(
        "--tolerance", type=float, help="how far a quality may lie from its record; default: 0.01"
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="build the simulated models again, and name the layers that the files change",
    )


def run(given: argparse.Namespace) -> int:
    """Print every check; 1 where one departs too far."""
    export = _export(given.study)
    study = open_study(str(export.parent.parent) if export else given.study)
    if given.layers:
        return _layers(study, export)
    from search.exports.verify import TOLERANCE, verify

    tolerance = TOLERANCE if given.tolerance is None else given.tolerance
    checks = verify(study.rows, study.folder, study.evaluator, tolerance, export)
    _print(checks)
    departed = [check for check in checks if not check.passed]
    print(
        f"{len(departed)} of {len(checks)} checks depart by more than {tolerance:g}."
        if departed
        else f"All {len(checks)} checks hold within {tolerance:g}."
    )
    return DEPARTED if departed else 0


def _export(text: str | None) -> Path | None:
    """The folder of an export of a study, where the word names one."""
    from search.configuration.compose import CONFIG
    from search.exports.package import FOLDER, METRICS

    folder = Path(text).absolute() if text else None
    if folder is None or folder.parent.name != FOLDER or not (folder / METRICS).is_file():
        return None
    return folder if (folder.parent.parent / CONFIG).is_file() else None


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


def _layers(study: Opened, export: Path | None) -> int:
    from search.exports.lowering import check_lowering

    checks = check_lowering(study.rows, study.folder, study.evaluator, export)
    for check in checks:
        _print_layers(check)
    departed = [check for check in checks if not check.passed]
    for check in departed:
        where = ", ".join(check.departing) or "no layer alone: see what gathers between them"
        print(f"{check.file} departs from its simulation; by layer: {where}.")
    if not departed:
        print(f"All {len(checks)} files are as simulated, within their target's tolerances.")
    return DEPARTED if departed else 0


def _print_layers(check: FileCheck) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(check.file), box=None, pad_edge=False, title_justify="left")
    table.add_column("layer", overflow="fold")
    for name in ("alone", f"of {check.layer_tolerance:g}", "gathered", ""):
        table.add_column(name, justify="right")
    for each in check.layers:
        wrong = each.layer in check.departing
        used = f"{each.alone.largest / check.layer_tolerance:.0%}"
        verdict = "DEPARTS" if wrong else "holds"
        row = (f"{each.alone.largest:.1e}", used, f"{each.gathered.norm:.1e}", verdict)
        table.add_row(each.layer, *row)
    beyond = check.outputs.beyond(check.tolerance)
    share = f"{check.outputs.norm:.1e}"
    table.add_row("answers", "", "", share, "DEPART" if beyond else f"hold, of {check.tolerance:g}")
    Console().print(table)
