"""Where the user's own classes are looked for: the end of the module path.

At the end, so that a folder of theirs called `evaluation` never shadows ours. Imports nothing of
this project, since it also tells when one of its packages resolves elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

OURS = ("compressors", "evaluation", "search")
HOME = Path(__file__).resolve().parents[2]


def folders(config_dir: Path | None) -> tuple[str, ...]:
    """The current folder, then the one that holds --config-dir."""
    found = [Path.cwd()]
    if config_dir is not None:
        found.append(config_dir.resolve().parent)
    return tuple(dict.fromkeys(str(folder) for folder in found))


def append(paths: Iterable[str]) -> None:
    """Put folders at the end of the module path, once each, and ours before them.

    An editable install finds our packages only after every folder of the path was asked.
    """
    for path in (str(HOME), *paths):
        if path not in sys.path:
            sys.path.append(path)


def shadowed() -> str | None:
    """One line about a package of ours that Python would take from elsewhere; None if all are."""
    for name in OURS:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if origin is None or origin.parent != HOME:
            return (
                f"The package '{name}' comes from {origin or 'a folder without __init__.py'} and "
                f"not from {HOME}; start the command `paredown` instead of python -m, take that "
                "folder out of PYTHONPATH, or rename it."
            )
    return None
