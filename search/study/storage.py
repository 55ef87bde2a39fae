"""Where a study lies: its storage by a URL, opened or made, its failures in one sentence.

Whoever only reads makes nothing, not even Optuna's own tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, get_storage
from sqlalchemy.engine import URL, create_engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from compressors.errors import UserError
from search.study.batching import BatchingStorage

BUSY_SECONDS = 30.0  # how long SQLite waits for another process's write
AGAIN = (0.1, 0.3, 1.0, 3.0)  # seconds until tables that another process makes are there


def open_storage(url: str) -> BaseStorage:
    """The storage behind a URL, created where it can be, others who create it too or not."""
    with storage_errors(url), driver_errors(url):
        for pause in AGAIN:
            try:
                return get_storage(BatchingStorage(url, engine_kwargs=_engine(url)))
            except (IntegrityError, OperationalError, ProgrammingError) as error:
                if not _already_there(error):
                    raise
                time.sleep(pause)  # another process makes the same tables
        return get_storage(BatchingStorage(url, engine_kwargs=_engine(url)))


def existing_storage(url: str) -> BaseStorage | None:
    """The storage behind a URL for reading; None where nobody has made it, or is making it."""
    with storage_errors(url), driver_errors(url):
        engine = create_engine(url, **_engine(url))
        try:
            with engine.connect() as connection:
                made = MigrationContext.configure(connection).get_current_revision()  # comes last
        finally:
            engine.dispose()
        if made is None:
            return None
        kwargs = _engine(url)
        return get_storage(BatchingStorage(url, engine_kwargs=kwargs, skip_table_creation=True))


def _engine(url: str) -> dict[str, Any]:
    sqlite = checked_url(url).get_backend_name() == "sqlite"
    return {"connect_args": {"timeout": BUSY_SECONDS}} if sqlite else {"pool_pre_ping": True}


def _already_there(error: SQLAlchemyError) -> bool:
    return isinstance(error, IntegrityError) or "already exists" in str(error)


def checked_url(url: str) -> URL:
    """The URL in parts; refused where it is none."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"storage cannot be '{url}'; valid: a database URL, such as "
            "sqlite:///study.db or postgresql://user@host/database."
        ) from error


@contextmanager
def driver_errors(url: str) -> Iterator[None]:
    """Turn a database driver that is not installed into one sentence."""
    try:
        yield
    except (ImportError, ArgumentError) as error:
        raise UserError(
            f"storage '{shown(url)}' needs a database driver: {error}; install it, or name "
            "another in the URL, such as postgresql+psycopg2://."
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for every other database."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def shown(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn a database that is locked, full, broken or away into one sentence."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        text = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()[0]
        raise UserError(
            f"The study's storage {shown(url)} failed: {text.rstrip('.')}; {_advice(text)}"
        ) from error


def _advice(text: str) -> str:
    for sign, advice in _ADVICE.items():
        if sign in text.lower():
            return advice
    return "nothing told so far is lost, and the same command continues once it works again."


_ADVICE = {
    "locked": "another program holds it; close that one and start the same command again.",
    "full": "make room on the disk and start the same command again.",
    "malformed": "restore it from a backup, or move it away to start anew.",
    "not a database": "it is no SQLite file; move it away, or set storage to another.",
    "readonly": "it must be writable; change its permissions, or set storage to another.",
    "unable to open": "its folder must exist and be writable.",
}
