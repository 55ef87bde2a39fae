"""The files of one deployable model, where a runtime wants more than one.

Knows nothing of what is in them.
"""

from __future__ import annotations

from pathlib import Path

BESIDE = {".xml": ".bin"}  # OpenVINO's: the network, and its weights under the same stem


def parts(path: Path) -> tuple[Path, ...]:
    """The file by which a model is named, then what has to lie beside it."""
    beside = BESIDE.get(path.suffix)
    return (path,) if beside is None else (path, path.with_suffix(beside))
