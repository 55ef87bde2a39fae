"""Runs trials through Ray Tune: a cluster of its own on this machine, or one that is there.

The one module that starts Ray. Workers are reused actors, each built once; the study's folder must
be visible to them under the same path. Knows nothing of studies.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.errors import UserError
from search.driver.trial_job import WorkerSpec
from search.engines.base import JobSource

if TYPE_CHECKING:
    from search.engines.ray_searcher import JobSearcher

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the older output can be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the driver's to handle
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the study is the checkpoint
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # which is how Ray spells one machine
STORE_BYTES = 100 * 2**20  # nothing large goes through Ray's object store


class RayEngine:
    """Ray Tune over the same study as the local engine."""

    def __init__(
        self,
        workers: int = 2,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
    ) -> None:
        if workers < 1:
            raise UserError(f"engine.workers cannot be {workers}; valid: a whole number from 1.")
        for name, value in (("cpus", cpus), ("gpus", gpus)):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"engine.{name} cannot be {value}; valid: 0 or more, a trial.")
        self.workers = workers
        self._address = address
        self._resources = {"cpu": cpus, "gpu": gpus}

    def run(self, spec: WorkerSpec, source: JobSource) -> None:
        """Run jobs until none remain."""
        local = LOOPBACK if self._address is None else {}
        with _environment(QUIET | local), _quiet_logs(), self.cluster():
            from search.engines.ray_searcher import JobSearcher

            searcher = JobSearcher(source, min(self.workers, source.remaining()))
            with _scratch(Path(spec.folder) / ".ray") as results:
                self._fit(spec, searcher, str(results))

    def _fit(self, spec: WorkerSpec, searcher: JobSearcher, results: str) -> None:
        from ray import tune

        from search.engines.ray_trial import PolicyTrial

        trainable = tune.with_resources(
            tune.with_parameters(PolicyTrial, spec=spec), self._resources
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                storage_path=results,
                name="search",
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        finally:
            if searcher.failure is not None:
                raise searcher.failure

    @contextmanager
    def cluster(self) -> Iterator[None]:
        """Be connected for the time inside; a connection that is there already is used."""
        import ray

        own = not ray.is_initialized()
        if own:
            self._connect()
        try:
            self._check(ray.cluster_resources())  # type: ignore[no-untyped-call]
            yield
        finally:
            if own:
                ray.shutdown()

    def _check(self, have: dict[str, float]) -> None:
        """Refuse a trial that no cluster like this could ever place; Tune would wait for it."""
        for name, key in (("cpu", "CPU"), ("gpu", "GPU")):
            if self._resources[name] > have.get(key, 0):
                raise UserError(
                    f"engine.{name}s asks for {self._resources[name]:g} a trial, and the Ray "
                    f"cluster has {have.get(key, 0):g} in all; valid: up to that."
                )

    def _connect(self) -> None:
        import ray

        if self._address is None:
            ray.init(
                address="local",
                num_cpus=max(1, math.ceil(self.workers * self._resources["cpu"])),
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
            return
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"engine.address '{self._address}' leads to no Ray cluster: "
                f"{str(error).strip().splitlines()[0].rstrip('.')}; valid: null to start one here, "
                "auto to join the one on this machine, or host:port."
            ) from error


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for what Tune insists on writing; a killed search's is removed by the next."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Ray's own words, of which the driver's progress has the gist."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
