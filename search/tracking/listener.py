"""MLflow as a view of a running study: written by a thread of its own, never in the search's way.

The search pays for putting a row into a queue. The thread opens the store, writes what is missing
there (after a kill, or after the server was away) and follows along. A store that cannot be
written is warned of once; the rows stay, and are written as soon as it answers again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.errors import UserError
from search.study.ledger import StudyRows, TrialRow
from search.tracking.marks import artifacts, digest, mark, marked

if TYPE_CHECKING:
    from search.tracking.book import Book

Warn = Callable[[str], None]
EXPERIMENT = "paredown"
PATIENCE = (2.0, 60.0)  # seconds between attempts at a store that does not answer: first, longest
LAST_CALL = 20.0  # seconds that the end of a search waits for what is still to be written


def default_uri(output_dir: Path) -> str:
    """The SQLite store beside the studies."""
    return f"sqlite:///{output_dir.absolute() / 'mlflow.db'}"


class MlflowListener:
    """Follows a study; satisfies `search.ledger.Listener`."""

    def __init__(
        self, uri: str, folder: Path, *, warn: Warn = print, experiment: str = EXPERIMENT
    ) -> None:
        self._uri, self._folder, self._experiment = uri, folder, experiment
        self._warn = warn
        self._queue: queue.Queue[TrialRow | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def started(self, rows: StudyRows, total: int) -> None:
        """Begin to write; the rows already there are written where they are missing."""
        writer = _Writer(self._uri, rows, total, self._folder, self._experiment, self._warn)
        if writer.is_done():
            return
        run = threading.Thread(target=writer.run, args=(self._queue,), name="mlflow", daemon=True)
        self._thread = run
        run.start()

    def trial_finished(self, row: TrialRow) -> None:
        """Hand a row to the thread."""
        self._queue.put(row)

    def closed(self) -> None:
        """Let the thread write what is left, for a limited time."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(LAST_CALL)
            if self._thread.is_alive():
                self._warn(f"MLflow at {self._uri} is slow; complete it with: paredown sync")


class _Writer:
    """The thread's side: what is told, what is written, when to try again."""

    def __init__(
        self,
        uri: str,
        study: StudyRows,
        total: int,
        folder: Path,
        experiment: str,
        warn: Warn,
    ) -> None:
        self._place = (uri, study, folder, experiment)
        self._total, self._warn = total, warn
        self._told = {row.number: row for row in _finished(study)}
        self._book: Book | None = None
        self._warned = False
        self._wait, self._next = PATIENCE[0], 0.0

    def is_done(self) -> bool:
        """Whether the study is at its total and the store holds all of it."""
        uri, _, folder, _ = self._place
        told = len(self._told)
        return told >= self._total and marked(folder, uri, trials=told)

    def run(self, rows: queue.Queue[TrialRow | None]) -> None:
        """Write until the search is closed, then once more."""
        self._attempt()
        while True:
            try:
                row = rows.get(timeout=None if self._book else self._wait)
            except queue.Empty:
                self._attempt()
                continue
            if row is None:
                break
            self._told[row.number] = row
            if self._book or time.monotonic() >= self._next:
                self._attempt()
        self._attempt(last=True)

    def _attempt(self, last: bool = False) -> None:
        """Write all that is missing. Whatever goes wrong is the store's, never the search's."""
        try:
            self._write(last)
        except Exception as error:
            self._book = None
            self._next = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, PATIENCE[1])
            self._complain(error, last)

    def _write(self, last: bool) -> None:
        from search.tracking.book import Book

        if self._book is None:
            self._book = Book(*self._place)
            self._book.resume()
        self._wait = PATIENCE[0]
        for number in sorted(self._told.keys() - self._book.whole()):
            self._book.write(self._told[number])
        if last:
            self._book.end(finished=len(self._told) >= self._total)
            mark(self._place[2], self._place[0], trials=len(self._told))

    def _complain(self, error: Exception, last: bool) -> None:
        uri, study = self._place[0], self._place[1].name
        if not self._warned:
            self._warned = True
            self._warn(
                f"MLflow at {uri} cannot be written ({_first_line(error)}); "
                "the search goes on, and what is missing there is written when it answers again."
            )
        elif last:
            self._warn(f"MLflow at {uri} still lacks trials; later: paredown sync {study}")


@dataclass(frozen=True)
class Synced:
    """What a synchronisation did."""

    written: int
    runs: int
    parent: str


def sync(rows: StudyRows, folder: Path, uri: str, *, experiment: str = EXPERIMENT) -> Synced:
    """Make MLflow say what the study says: every finished trial's run, and the front's files."""
    from search.front.front import find
    from search.tracking.book import Book

    told = {row.number: row for row in _finished(rows)}
    content = digest(artifacts(folder))
    try:
        book = Book(uri, rows, folder, experiment)
        missing = sorted(told.keys() - book.whole())
        for number in missing:
            book.write(told[number])
        book.write_front(find(rows), folder)
        book.end(
            finished=True, when=max((r.finished for r in told.values() if r.finished), default=None)
        )
    except _store_errors() as error:
        raise UserError(
            f"MLflow at {uri} cannot be written: {_first_line(error)}; "
            "check tracking.uri and that its server runs."
        ) from error
    mark(folder, uri, trials=len(told), artifacts=content)
    return Synced(len(missing), len(told), book.parent)


def log_front(rows: StudyRows, folder: Path, uri: str, *, warn: Warn = print) -> None:
    """Bring the front's files to MLflow after a search; a store that is away is warned of."""
    if marked(folder, uri, trials=len(_finished(rows)), artifacts=digest(artifacts(folder))):
        return
    try:
        sync(rows, folder, uri)
    except UserError as error:
        warn(f"{error} Later: paredown sync {rows.name}")


def _finished(rows: StudyRows) -> list[TrialRow]:
    return [row for row in rows.trials if row.state in ("complete", "failed", "stopped_early")]


def _store_errors() -> tuple[type[Exception], ...]:
    """What MLflow raises where its store is away, full or not a store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
