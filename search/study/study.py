"""A study in Optuna's storage: opened or continued, asked and told.

With `study_rows`, the one place that knows how `ledger` is laid out in the storage. Knows neither
engines nor what a policy does. A trial is asked and told in one transaction each, so that a kill
at any moment leaves every trial untouched, in flight (to be put back) or finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from compressors.errors import UserError
from evaluation.measurement import Measurement
from evaluation.probing.probe import Probe
from search.study import ledger
from search.study.batching import batch
from search.study.curious import Curious
from search.study.identity import require_same
from search.study.ledger import ApartRow, ProbeRow, StudyRows, TrialRow
from search.study.reading import probe_rows, rows_of, trial_row
from search.study.storage import open_storage, storage_errors


class Study:
    """One study, written by this process alone."""

    def __init__(self, url: str, study: optuna.Study) -> None:
        self._url = url
        self._study = study
        self._asked: dict[int, optuna.Trial] = {}
        self._reference: Measurement | None = None
        self._may_wait = True  # looked up again for as long as a trial does

    @staticmethod
    def open(url: str, name: str, identity: Mapping[str, Any]) -> Study:
        """The study of that name, new or continued; refused where it is another study."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_storage(url)
        with storage_errors(url):
            known = name in {found.study_name for found in storage.get_all_studies()}
            if known:
                study = optuna.load_study(study_name=name, storage=storage)
                _require_same(study, identity)
            else:
                directions = [entry["direction"] for entry in identity["objectives"]]
                study = optuna.create_study(study_name=name, storage=storage, directions=directions)
                study.set_user_attr(ledger.UID, uuid4().hex)
            if ledger.IDENTITY not in study.user_attrs:
                study.set_user_attr(ledger.IDENTITY, dict(identity))
        opened = Study(url, study)
        opened.put_back()
        return opened

    def use(self, sampler: BaseSampler) -> None:
        """Let this sampler choose from now on."""
        self._study.sampler = sampler

    def enqueue(self, params: Mapping[str, Any], baseline: str) -> None:
        """Add a trial with these parameters to be asked before the sampler's own."""
        self._may_wait = True
        with storage_errors(self._url):
            self._study.enqueue_trial(dict(params), user_attrs={ledger.BASELINE: baseline})

    def ask(self, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
        """The next trial: a waiting one, or a new one of the sampler's."""
        with storage_errors(self._url):
            with batch(self._study._storage):
                trial = self._study.ask(dict(distributions))
            self._asked[trial.number] = trial
            return self._study._storage.get_trial(trial._trial_id)

    def ask_again(self, number: int) -> FrozenTrial:
        """This trial, which waits and has its parameters, whatever waits before it."""
        storage = self._study._storage
        with storage_errors(self._url):
            study_id = self._study._study_id
            trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
            storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
            with batch(storage):
                self._asked[number] = optuna.Trial(self._study, trial_id)
            return storage.get_trial(trial_id)

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        constraints: Mapping[str, float],
        *,
        stopped: bool = False,
    ) -> TrialRow:
        """Finish a trial asked before; without values it has failed, or was stopped."""
        trial = self._asked[number]
        with storage_errors(self._url):
            with batch(self._study._storage):
                for key, value in attributes.items():
                    if value is not None:
                        trial.set_user_attr(key, value)
                for key, value in constraints.items():
                    trial.set_constraint(key, value)
                state = TrialState.PRUNED if stopped else TrialState.FAIL
                if values is not None:
                    state = TrialState.COMPLETE
                self._study.tell(trial, values, state)
            del self._asked[number]
            return trial_row(self._study._storage.get_trial(trial._trial_id))

    def keep(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Keep what is known of a trial in flight."""
        trial = self._asked[number]
        with storage_errors(self._url), batch(self._study._storage):
            for key, value in attributes.items():
                trial.set_user_attr(key, value)

    def curious(self) -> Curious | None:
        """The sampler, where it wants to know things before it asks."""
        sampler = self._study.sampler
        return sampler if isinstance(sampler, Curious) else None

    def wanted(self) -> Sequence[Probe]:
        """The probes that the sampler wants now."""
        curious = self.curious()
        with storage_errors(self._url):
            return [] if curious is None else list(curious.wants(self._study))

    def probes(self) -> tuple[ProbeRow, ...]:
        """What came of the probes so far."""
        with storage_errors(self._url):
            return probe_rows(self._study.user_attrs)

    def keep_probe(self, row: ProbeRow) -> None:
        """Keep what came of a probe."""
        said = {name: value for name, value in asdict(row).items() if name != "key"}
        with storage_errors(self._url):
            self._study.set_user_attr(ledger.PROBE + row.key, said)

    def waits(self) -> bool:
        """Whether a trial waits to be asked before the sampler's own."""
        if self._may_wait:
            self._may_wait = any(trial.state is TrialState.WAITING for trial in self.trials())
        return self._may_wait

    def put_back(self) -> None:
        """Let every trial in flight wait, to be asked again with the parameters it has."""
        self._may_wait = True
        storage = self._study._storage
        with storage_errors(self._url):
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)
        self._asked.clear()

    def trials(self) -> list[FrozenTrial]:
        """Every trial, in order; not to be changed."""
        with storage_errors(self._url):
            return self._study.get_trials(deepcopy=False)

    def finished(self) -> int:
        """How many trials are complete, failed or stopped."""
        return sum(trial.state.is_finished() for trial in self.trials())

    def asked(self) -> int:
        """How many trials the sampler, or a baseline, has filled in already."""
        return sum(bool(trial.params) for trial in self.trials())

    def rows(self) -> StudyRows:
        """Everything, as the views see it."""
        with storage_errors(self._url):
            return rows_of(self._study)

    @property
    def reference(self) -> Measurement | None:
        """The uncompressed model's measurement, once there is one."""
        if self._reference is None:
            with storage_errors(self._url):
                stored = self._study.user_attrs.get(ledger.REFERENCE)
            self._reference = None if stored is None else Measurement.from_json(stored)
        return self._reference

    def set_reference(self, measurement: Measurement, apart: ApartRow | None = None) -> None:
        """Keep the uncompressed model's measurement; what it took first, where no trial did."""
        with storage_errors(self._url):
            if apart is not None:
                self._study.set_user_attr(ledger.REFERENCE_TOOK, asdict(apart))
            self._study.set_user_attr(ledger.REFERENCE, measurement.to_json())
        self._reference = measurement

    def set_point(self, point: Sequence[float] | None) -> None:
        """Keep the reference point that hypervolumes are measured from, if one is stated."""
        stated = None if point is None else list(point)
        with storage_errors(self._url):
            if self._study.user_attrs.get(ledger.POINT) != stated:
                self._study.set_user_attr(ledger.POINT, stated)


def _require_same(study: optuna.Study, identity: Mapping[str, Any]) -> None:
    before = study.user_attrs.get(ledger.IDENTITY)
    if before is not None:
        require_same(study.study_name, before, identity)
    elif study.get_trials(deepcopy=False) or len(study.directions) != len(identity["objectives"]):
        raise UserError(
            f"The storage holds a study '{study.study_name}' that was not made by this program; "
            "set study.name to another."
        )
