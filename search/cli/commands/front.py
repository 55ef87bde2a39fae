"""`paredown front`: a study's front, validated on its exported files."""

from __future__ import annotations

import argparse

from search.cli import studies
from search.cli.opened import open_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY, and whether to measure again."""
    studies.argument(parser)
    parser.add_argument(
        "--remeasure", action="store_true", help="measure every file of the front again"
    )


def run(given: argparse.Namespace) -> int:
    """Print the front; its files in the study's folder are written anew."""
    from rich.console import Console

    from search.front.finish import finish

    study = open_study(given.study)
    finish(
        study.rows,
        study.folder,
        study.evaluator,
        remeasure=given.remeasure,
        tracking=study.settings.tracking.enabled,
        tidy=False,  # a search may be running
        console=Console(),
    )
    return 0
