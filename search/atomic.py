"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressors.errors import UserError


def write_text(path: Path, text: str) -> Path:
    """Write text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return path


def copy(source: Path, path: Path) -> Path:
    """Copy a file."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to fill beside the one to replace; it takes its place when the block ends well."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot write {path}: {reason}; choose a folder you can write.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
