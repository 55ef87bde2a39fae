"""The search by sensitivities, from plain arguments."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.samplers import BaseSampler

from search.samplers.setting import Setting
from search.sensitivity.plan import Phases
from search.sensitivity.sampler import SensitivitySampler
from search.sensitivity.training import choices_of_epochs


@dataclass(frozen=True)
class Sensitivity:
    """What each choice does alone, put together into whole fronts, then corrected by trials."""

    hull: int = Phases.hull
    offline: int = Phases.offline
    explore: float = Phases.explore
    recover: float = Phases.recover
    changes: bool = Phases.changes

    def __post_init__(self) -> None:
        self._phases()

    def build(self, setting: Setting) -> BaseSampler:
        """The sampler; what it wants to know, the driver finds out."""
        problem = setting.problem()
        trains = bool(choices_of_epochs(setting.space))
        phases = self._phases().within(setting.trials, trains=trains)
        return SensitivitySampler(setting.space, problem, seed=setting.seed, phases=phases)

    def _phases(self) -> Phases:
        return Phases(self.hull, self.offline, self.explore, self.recover, self.changes)
