"""`paredown report`: a study's report and picture, made again from its rows."""

from __future__ import annotations

import argparse

from search.cli import studies
from search.cli.opened import open_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY."""
    studies.argument(parser)


def run(given: argparse.Namespace) -> int:
    """Write report.html and front.png; nothing is measured."""
    from search.front.front import find
    from search.front.front_files import read_validation
    from search.views import picture, report

    study = open_study(given.study)
    front, validation = find(study.rows), read_validation(study.folder, study.rows.uid)
    picture.write(study.folder / "front.png", study.rows, front, validation)
    print(report.write(study.rows, study.folder, front, validation))
    return 0
