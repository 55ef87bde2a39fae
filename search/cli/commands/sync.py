"""`paredown sync`: makes MLflow say what the study says."""

from __future__ import annotations

import argparse

from search.cli import studies
from search.cli.opened import open_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY and another store."""
    studies.argument(parser)
    parser.add_argument("--uri", help="an MLflow tracking URI; default: the study's own")


def run(given: argparse.Namespace) -> int:
    """Write what is missing."""
    from search.tracking.listener import sync

    study = open_study(given.study)
    uri = given.uri or study.settings.tracking_uri
    done = sync(study.rows, study.folder, uri)
    print(f"{done.written} of {done.runs} runs written to {uri}; the rest was there.")
    return 0
