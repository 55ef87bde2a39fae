"""`paredown compare`: the fronts of several studies of one task, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from search.cli.opened import open_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """Two studies or more, and where to write."""
    parser.add_argument(
        "studies", nargs="+", metavar="STUDY", help="a study's folder, or its name in outputs/"
    )
    parser.add_argument(
        "--out",
        default="compare.html",
        help="the page to write, with a picture beside it; default: compare.html",
    )


def run(given: argparse.Namespace) -> int:
    """Write the page and the picture; nothing is measured."""
    from compressors.errors import UserError
    from search.front.front import find
    from search.front.front_files import read_validation
    from search.views import compare, compare_picture
    from search.views.compare_data import Compared, check

    out = Path(given.out)
    if out.suffix != ".html":
        raise UserError(f"--out cannot be {given.out}; valid: a file that ends in .html.")
    opened = [open_study(text) for text in given.studies]
    folders = [study.folder.resolve() for study in opened]
    if len(set(folders)) < len(folders):
        raise UserError("A study is named twice; compare takes different studies.")
    studies = [
        Compared(study.rows, find(study.rows), read_validation(study.folder, study.rows.uid))
        for study in opened
    ]
    check(studies)
    compare_picture.write(out.with_suffix(".png"), studies)
    print(compare.write(out, studies))
    return 0
