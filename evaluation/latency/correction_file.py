"""A correction as a file: JSON. Knows nothing of what it means."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.cache import make_folder, replacing
from evaluation.latency.correction import FAMILIES, Correction, Pulled
from evaluation.latency.parts import Part


def read(path: Path) -> Correction | None:
    """What `write` wrote; None where nothing usable is there."""
    try:
        return _read(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(found: Any) -> Correction:
    pulled = (Pulled(_part(each["part"]), float(each["pull"])) for each in found["pulled"])
    return Correction(
        float(found["start_ms"]),
        float(found["megabyte_ms"]),
        {name: float(found["factors"][name]) for name in FAMILIES},
        tuple(pulled),
        float(found["departure"]),
        float(found["first_ms"]),
    )


def _part(found: Any) -> Part:
    return Part(
        str(found["key"]),
        str(found["family"]),
        float(found["milliseconds"]),
        float(found["spread_ms"]),
        str(found["kind"]),
        tuple(float(size) for size in found["sizes"]),
    )


def write(path: Path, correction: Correction) -> None:
    """Keep a correction."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(correction), indent=1))
