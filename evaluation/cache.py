"""Where things that cost time to make are kept between runs, and how they are written.

Knows nothing of what is kept there.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressors.errors import UserError


def cache_dir(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder, whole: the one given, else $PAREDOWN_CACHE, else ~/.cache/paredown."""
    path = chosen or os.environ.get("PAREDOWN_CACHE") or Path.home() / ".cache" / "paredown"
    return Path(path).expanduser().absolute()


def make_folder(folder: Path) -> Path:
    """The folder, made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The cache folder '{folder}' cannot be made ({error.strerror}); "
            "set PAREDOWN_CACHE or cache_dir to a folder that can be written."
        ) from error
    return folder


def ends_amid_a_line(path: Path) -> bool:
    """Whether a file's last line lacks its end, as of a process that was killed."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time beyond this point, for one path; the lock dies with its holder."""
    make_folder(path.parent)
    try:
        handle = open(path.with_name(path.name + ".lock"), "a")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"The cache folder '{path.parent}' cannot be written ({error.strerror}); "
            "set PAREDOWN_CACHE or cache_dir to a folder that can be."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that takes the place of `path` once it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
