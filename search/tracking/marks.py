"""tracking.json in a study's folder: the study's identifier, and what each store already holds.

The identifier is how a study's runs are found again, whatever its name. The marks only save time:
they let a search that has nothing left to do leave MLflow alone.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from search.atomic import write_text
from search.configuration.secrets import without_passwords

NAME = "tracking.json"
ARTIFACTS = ("front.json", "front.csv", "front.png", "report.html", "config.yaml", "policies")


def identifier(folder: Path) -> str:
    """The study's own identifier, made once."""
    content = _read(folder)
    if "study_uid" not in content:
        content["study_uid"] = uuid.uuid4().hex
        _write(folder, content)
    return str(content["study_uid"])


def mark(folder: Path, uri: str, **held: Any) -> None:
    """Note what a store holds."""
    content = _read(folder)
    stores = content.setdefault("stores", {})
    store = without_passwords(uri)
    stores[store] = {**stores.get(store, {}), **held}
    _write(folder, content)


def marked(folder: Path, uri: str, **held: Any) -> bool:
    """Whether a store was noted to hold exactly this."""
    known = _read(folder).get("stores", {}).get(without_passwords(uri), {})
    return all(known.get(name) == value for name, value in held.items()) and _stands(uri)


def artifacts(folder: Path) -> list[Path]:
    """The front's files that are there."""
    return [folder / name for name in ARTIFACTS if (folder / name).exists()]


def digest(paths: list[Path]) -> str:
    """One hash of files and of everything in folders."""
    content = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            content.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return content.hexdigest()[:16]


def sqlite_file(uri: str) -> Path | None:
    """The file behind an SQLite URI; None for every other kind of store."""
    prefix = "sqlite:///"
    return Path(uri[len(prefix) :]).absolute() if uri.startswith(prefix) else None


def _stands(uri: str) -> bool:
    file = sqlite_file(uri)
    return file is None or file.exists()


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_text(folder / NAME, json.dumps(content, indent=2) + "\n")
