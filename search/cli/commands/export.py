"""`paredown export`: a member of the front as a deployable model with its card."""

from __future__ import annotations

import argparse

from search.cli import studies
from search.cli.opened import open_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY and which of its trials."""
    studies.argument(parser)
    parser.add_argument("--trial", type=int, help="a trial's number; default: the best")


def run(given: argparse.Namespace) -> int:
    """Write export/<trial>/ and say where."""
    from search.exports.exports import export

    study = open_study(given.study)
    out = export(study.rows, study.folder, given.trial, study.evaluator)
    print(f"Exported to {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0
