"""The actor that Ray Tune reuses from trial to trial: builds its evaluator once, runs one job each.

Runs on a cluster's nodes; knows nothing of the driver.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from search.driver.trial_job import Broken, Job, WorkerSpec
from search.driver.worker import load, pin_threads, run_job


class PolicyTrial(Trainable):
    """One job after another, each of a single step."""

    def setup(self, config: dict[str, Any], spec: WorkerSpec) -> None:  # type: ignore[override]
        """Keep the job; the evaluator is built with the first step, where its failure is told."""
        pin_threads(spec.threads)
        self._spec = spec
        self._evaluator: Any = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job into the same actor."""
        self._job = Job(**json.loads(new_config["job"]))
        return True

    def step(self) -> dict[str, Any]:
        """Run the job."""
        if self._evaluator is None:
            self._evaluator = load(self._spec)
        if isinstance(self._evaluator, Broken):
            return {"done": True, "broken": json.dumps(asdict(self._evaluator))}
        outcome = run_job(self._evaluator, self._job, Path(self._spec.folder))
        return {"done": True, "outcome": json.dumps(asdict(outcome))}
