"""One driver a study: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from compressors.errors import UserError
from search.study.storage import checked_url, driver_errors, storage_errors


@contextmanager
def sole_driver(folder: Path, url: str, name: str) -> Iterator[None]:
    """Hold the study for the time inside; refused where another search holds it."""
    with _folder_lock(folder, name), _database_lock(url, name):
        yield


def _held(name: str, where: str) -> UserError:
    return UserError(
        f"The study '{name}' is being searched already ({where}); wait for that search, stop it, "
        "or set study.name to another."
    )


@contextmanager
def _folder_lock(folder: Path, name: str) -> Iterator[None]:
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise UserError(
            f"The study's folder {folder} cannot be written: {error.strerror or error}; "
            "set output_dir to a folder that can."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _held(name, f"another process holds {path}") from error
        yield


@contextmanager
def _database_lock(url: str, name: str) -> Iterator[None]:
    """On PostgreSQL also a lock of the session, as drivers may sit on several machines."""
    if checked_url(url).get_backend_name() != "postgresql":
        yield
        return
    key = int.from_bytes(sha256(f"paredown {name}".encode()).digest()[:8], "big", signed=True)
    with storage_errors(url), driver_errors(url):
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        connection = engine.connect()
    with connection:
        with storage_errors(url):
            held = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
            free = bool(held.scalar())
        if not free:
            raise _held(name, "another driver is connected to the same database")
        yield
