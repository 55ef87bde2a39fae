"""Ray Tune's searcher over a job source: what Tune suggests is what the study asked.

Knows nothing of studies or samplers. Imports Ray, so import it where Ray runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from search.driver.trial_job import Broken, JobOutcome
from search.engines.base import JobSource, broken

DIED = "The worker died, most likely as the machine ran out of memory; Ray's logs say more."


FINISHED = Searcher.FINISHED


class JobSearcher(Searcher):
    """Hands jobs to Tune as configurations, and Tune's results back as outcomes."""

    def __init__(self, source: JobSource, most_at_once: int) -> None:
        super().__init__()
        self._source = source
        self._most = most_at_once
        self._numbers: dict[str, int] = {}
        self.failure: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next job; None for not now, FINISHED for no more."""
        if self.failure is not None or not self._source.remaining():
            return FINISHED
        if len(self._numbers) >= self._most:
            return None
        with self._kept():
            job = self._source.next_job()
        if job is None:
            return None if self._source.remaining() else FINISHED
        self._numbers[trial_id] = job.number
        return {"job": json.dumps(asdict(job))}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Finish the job of a Tune trial."""
        number = self._numbers.pop(trial_id, None)
        if number is not None:
            with self._kept():
                self._source.finish(_outcome(number, None if error else result))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep an exception for the engine to raise: Tune makes words of it, or a failed trial."""
        try:
            yield
        except Exception as error:
            self.failure = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        """What Tune may pickle of it, for a restoration that we never ask for: nothing of ours.

        The source holds the study and its listeners, a console and a database among them.
        """
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study is the record."""


def _outcome(number: int, result: dict[str, Any] | None) -> JobOutcome:
    if result and "broken" in result:
        raise broken(Broken(**json.loads(result["broken"])))
    if result and "outcome" in result:
        return JobOutcome(**json.loads(result["outcome"]))
    return JobOutcome(number, reason=DIED)
