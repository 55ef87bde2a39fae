"""Findings as files: one a probe, written whole or not at all, read without running any code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.cache import make_folder, replacing
from evaluation.probing.probe import Finding

FOLDER = "probes"  # in a study's folder, and in the cache folder
SUFFIX = ".npz"


def path_of(folder: Path, key: str) -> Path:
    """Where the finding of that key lies in a study's folder, or in the cache folder."""
    return folder / FOLDER / f"{key}{SUFFIX}"


def write(path: Path, finding: Finding) -> None:
    """Write a finding."""
    arrays: dict[str, Any] = {
        "damage": finding.damage,
        "evaluations": np.float64(finding.evaluations),
        "scores": np.bool_(finding.scores),
    }
    make_folder(path.parent)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **finding.arrays())


def read(path: Path) -> Finding | None:
    """The finding in a file; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Finding(
                damage=file["damage"],
                evaluations=float(file["evaluations"]),
                changes=file.get("changes"),
                outputs=file.get("outputs"),
                reference=file.get("reference"),
                scores=bool(file["scores"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
