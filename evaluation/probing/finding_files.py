"""Findings as files: one a probe, written whole or not at all, read without running any code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.cache import make_folder, replacing
from evaluation.probing.probe import Finding

FOLDER = "probes"  # in a study's folder
SUFFIX = ".npz"


def path_of(folder: Path, key: str) -> Path:
    """Where the finding of that key lies in a study's folder."""
    return folder / FOLDER / f"{key}{SUFFIX}"


def write(path: Path, finding: Finding) -> None:
    """Write a finding."""
    make_folder(path.parent)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict[str, Any](finding.arrays()))


def read(path: Path) -> Finding | None:
    """The finding in a file; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Finding.of(dict(file))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
