"""An Optuna storage that writes a trial in one transaction, and reads it again only where it must.

Optuna commits every parameter and attribute on its own: with sixty knobs that is sixty
synchronous writes an ask, and a kill between two of them leaves half a trial. Inside `batch` they
are kept back and written together, so that a trial is asked, and told, wholly or not at all.
Knows nothing of what the attributes mean.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session


class BatchingStorage(RDBStorage):
    """Optuna's relational storage, whose writes to trials can be put into one transaction.

    Nobody else writes while a driver does, so a trial in flight is read again only after a write to
    it: Optuna reads all of them at every ask, which with a thousand workers takes seconds.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        self._kept: list[tuple[str, tuple[Any, ...]]] | None = None
        self._stale: set[int] = set()  # trials written to since they were read
        self._last: dict[int, int] = {}  # of each study the last trial that was read
        super().__init__(url, **settings)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """As Optuna's, without those that are as they were when they were read last."""
        last = self._last.get(study_id, -1)
        if last < 0 or states is not None:
            asked = (included_trial_ids, trial_id_greater_than)
        else:
            asked = (set(self._stale), last)
        found: list[FrozenTrial] = super()._get_trials(study_id, states, *asked)
        if states is None:
            self._stale.difference_update(trial._trial_id for trial in found)
            self._last[study_id] = max([last, *(trial._trial_id for trial in found)])
        return found

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keep writes to trials back until the end; an exception drops them."""
        kept = self._kept = []
        try:
            yield
        finally:
            self._kept = None
        self._write(kept)

    def _write(self, kept: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._stale.update(arguments[0] for _, arguments in kept)
        with _create_scoped_session(self.scoped_session) as session:
            session.add_all(models.TrialParamModel(**row) for row in self._checked(session, kept))
            for kind, arguments in kept:
                if kind == "param":
                    continue
                if kind == "state":  # last; joins this thread's session and commits it
                    super().set_trial_state_values(*arguments)
                else:
                    self._set_trial_attr_without_commit(session, _ATTRIBUTES[kind], *arguments)

    def _checked(
        self, session: Session, kept: list[tuple[str, tuple[Any, ...]]]
    ) -> Iterator[dict[str, Any]]:
        """The parameters as rows. Optuna looks the trial up again for each; once is enough."""
        params = [arguments for kind, arguments in kept if kind == "param"]
        for trial_id in {arguments[0] for arguments in params}:
            trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
            self.check_trial_is_updatable(trial_id, trial.state)
        for trial_id, name, value, distribution, before in params:
            if before is not None:
                check_distribution_compatibility(before, distribution)
            yield {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        arguments = (
            trial_id,
            param_name,
            param_value_internal,
            distribution,
            previous_distribution,
        )
        if self._kept is None:
            self._stale.add(trial_id)
            super()._set_trial_param(*arguments)
        else:
            self._kept.append(("param", arguments))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, kept back inside a batch."""
        if self._kept is None:
            self._stale.add(trial_id)
            super().set_trial_user_attr(trial_id, key, value)
        else:
            self._kept.append(("user", (trial_id, key, value)))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, kept back inside a batch."""
        if self._kept is None:
            self._stale.add(trial_id)
            super().set_trial_system_attr(trial_id, key, value)
        else:
            self._kept.append(("system", (trial_id, key, value)))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a finished state is kept back inside a batch."""
        if self._kept is None or not state.is_finished():
            self._stale.add(trial_id)
            return super().set_trial_state_values(trial_id, state, values)
        self._kept.append(("state", (trial_id, state, values)))
        return True


_ATTRIBUTES: dict[str, Any] = {
    "user": models.TrialUserAttributeModel,
    "system": models.TrialSystemAttributeModel,
}


@contextmanager
def batch(storage: BaseStorage) -> Iterator[None]:
    """One transaction for the writes inside, where the storage can."""
    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, BatchingStorage):
        with backend.batch():
            yield
    else:
        yield
