"""Finds the study that a command names: a folder, or the name of one in `outputs`."""

from __future__ import annotations

import argparse
from pathlib import Path

from compressors.errors import UserError, unknown
from search.configuration.compose import CONFIG

OUTPUTS = Path("outputs")


def argument(parser: argparse.ArgumentParser) -> None:
    """Adds STUDY; left out, it is the latest one in `outputs`."""
    parser.add_argument(
        "study", nargs="?", help="a study's folder, or its name in outputs/; default: the latest"
    )


def find(text: str | None) -> Path:
    """The folder of a study."""
    if text is None:
        return _latest()
    for folder in (Path(text), OUTPUTS / text):
        if (folder / CONFIG).is_file():
            return folder
    if Path(text).is_dir():
        raise UserError(f"The folder '{text}' is not a study's: it has no {CONFIG}.")
    names = [folder.name for folder in _all()]
    if not names:
        raise UserError(f"There is no study '{text}'; `paredown search` makes one.")
    raise UserError(unknown("study", text, names))


def _latest() -> Path:
    found = sorted(_all(), key=lambda folder: (folder / CONFIG).stat().st_mtime)
    if not found:
        raise UserError(f"There is no study in {OUTPUTS}/; `paredown search` makes one.")
    return found[-1]


def _all() -> list[Path]:
    return sorted(path.parent for path in OUTPUTS.glob(f"*/{CONFIG}"))
