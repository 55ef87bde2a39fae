"""The four files that an export is written to; five where a model has its weights apart.

Knows their form; knows nothing of how a figure was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compressors.errors import UserError
from compressors.policies import policy_yaml
from evaluation.artifact_parts import parts
from search.atomic import copy, write_text
from search.exports.model_card import card
from search.exports.stated import Package
from search.front.front_files import values_json

FOLDER = "export"
METRICS, POLICY, CARD = "metrics.json", "policy.yaml", "MODEL_CARD.md"


def sha256(file: Path) -> str:
    """The hash of a model's content, of all its files one after another."""
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts(file))).hexdigest()


def write(out: Path, file: Path, package: Package) -> Path:
    """The four files (or five); metrics.json last, as the sign that the others are whole."""
    model = out / f"model{file.suffix}"
    write_text(out / POLICY, policy_yaml.dump(package.policy))
    if file != model:
        for source, part in zip(parts(file), parts(model), strict=True):
            copy(source, part)
    write_text(out / CARD, card(package, model.name))
    write_text(out / METRICS, json.dumps(_metrics(package, model), indent=2) + "\n")
    return out


def _metrics(package: Package, model: Path) -> dict[str, Any]:
    every = (package.search, package.exported, package.reference)
    metrics = {v.metric.name: asdict(v.metric) for found in every for v in found.values}
    return {
        "version": 1,
        "study": package.study,
        "trial": package.trial,
        "task": package.task,
        "target": package.target,
        "policy_id": policy_yaml.policy_id(package.policy),
        "file": model.name,
        "sha256": sha256(model),
        "metrics": list(metrics.values()),
        "search": values_json(package.search),
        "exported": values_json(package.exported),
        "reference": values_json(package.reference),
        "record": package.record,
    }


def refuse_foreign(out: Path) -> None:
    """Never write over what no export wrote."""
    with _writable(out):
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; choose a folder to write into.")
        if out.is_dir() and any(out.iterdir()) and not _is_export(out):
            raise UserError(f"{out} holds files that no export wrote; choose an empty folder.")


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder to build in, gone afterwards; inside `out`, which is thus known to take files."""
    with _writable(out):
        out.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=out, prefix=".")
    with folder as name:
        yield Path(name)


def _is_export(out: Path) -> bool:
    try:
        content = json.loads((out / METRICS).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= {"version", "policy_id", "sha256"}


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot write {out}: {reason}; choose a folder you can write.") from error
