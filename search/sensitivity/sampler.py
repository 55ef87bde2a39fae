"""The search by sensitivities as an Optuna sampler, for any study of its space.

Stateless towards the study: what it asks next follows from the study's trials, their attributes
and the findings it was told, so that searches resume and workers ask in parallel. Where a prober
is given it finds out for itself what it wants to know; else a driver asks `wants` and tells
`learn`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from evaluation.probing.probe import Finding, Probe
from search.sensitivity.brain import Brain, Idea
from search.sensitivity.coding import Coding, Rows
from search.sensitivity.past import EPOCHS, Past, Reader
from search.sensitivity.plan import Phases
from search.sensitivity.probing import Findings
from search.sensitivity.training import choices_of_epochs
from search.sensitivity.view import View, look
from search.sensitivity.work import Work
from search.space.space import Space
from search.study import ledger
from search.study.problem import Problem

MIDDLE = "sensitivity_middle"  # a study's attribute: the setting that changes are probed around
LATER = ("offline", "refine", "explore", "recovery")
Prober = Callable[[Probe], Finding]


class SensitivitySampler(BaseSampler):
    """Whole fronts from what each choice does alone, corrected by what trials measure."""

    def __init__(
        self,
        space: Space,
        problem: Problem,
        *,
        seed: int = 0,
        phases: Phases | None = None,
        prober: Prober | None = None,
    ) -> None:
        self._space = space
        self._problem = problem
        self._phases = phases or Phases()
        self._prober = prober
        self._coding = Coding(space)
        self._work = Work(self._coding)
        self._reader = Reader(self._coding, problem)
        self._findings = Findings(self._coding, self._work)
        self._brain = Brain(
            self._phases, seed, _least_epochs(space), tuple(choices_of_epochs(space))
        )
        self._random = RandomSampler(seed=seed)
        self._reference: dict[str, float] = {}
        self._middle: Rows | None = None

    def wants(self, study: Study) -> Sequence[Probe]:
        """What is to be found out before the next trial is asked; empty where nothing is."""
        first = self._findings.wanted()
        return first or self._findings.wanted(self._around(study))

    def learn(self, probe: Probe, finding: Finding | None) -> None:
        """Keep an answer; None where there is none to be had."""
        self._findings.learn(probe, finding)

    def view(self, study: Study, but: int = -1) -> View:
        """The study as this sampler sees it, without the trial of that number."""
        past = self._past(study, but)
        surrogates = self._findings.surrogates(self._around(study))
        reference = self._known(study)
        return look(self._coding, self._work, self._problem, past, reference, surrogates)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space, whatever was asked before."""
        del study, trial
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next setting, with what it is for kept in the trial's attributes."""
        if not search_space or trial.params:
            return {}
        if self._prober is not None:
            self._find_out(study, self._prober)
        idea = self._brain.propose(self.view(study, trial.number), trial.number)
        self._note(study, trial, idea)
        return self._params(idea)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A draw, for what the space does not know."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw otherwise, as a copy in another process has to."""
        self._random.reseed_rng()

    def _find_out(self, study: Study, prober: Prober) -> None:
        while probes := self.wants(study):
            for probe in probes:
                self.learn(probe, prober(probe))

    def _params(self, idea: Idea) -> dict[str, Any]:
        params = {knob.name: knob.first for knob in self._space.of_kind("recovery")}
        if EPOCHS in params:
            params[EPOCHS] = int(idea.epochs)
        return {**params, **idea.training, **self._coding.params(idea.row)}

    def _note(self, study: Study, trial: FrozenTrial, idea: Idea) -> None:
        noted = {
            ledger.PHASE: idea.phase,
            ledger.PREDICTED: idea.predicted,
            ledger.GUESSED: idea.guessed,
        }
        for key, value in noted.items():
            study._storage.set_trial_user_attr(trial._trial_id, key, value)

    def _past(self, study: Study, but: int = -1) -> Past:
        return self._reader.read(study._get_trials(deepcopy=False, use_cache=False), but)

    def _known(self, study: Study) -> Mapping[str, float]:
        """The uncompressed model's values, once the study has them, and with them its box."""
        if not self._reference:
            attributes = study.user_attrs
            rows = attributes.get(ledger.REFERENCE) or ()
            self._reference = {row["name"]: float(row["value"]) for row in rows}
            if (point := attributes.get(ledger.POINT)) is not None:
                stated = dict(zip(self._problem.names, point, strict=False))
                self._problem = replace(self._problem, reference_point=stated)
        return self._reference

    def _around(self, study: Study) -> Rows | None:
        """The setting that changes are probed around: the front's middle once hulls are measured.

        It is kept in the study, so that it stays the same.
        """
        if not self._phases.changes or self._problem.place is None:
            return None
        if self._middle is None:
            kept = study.user_attrs.get(MIDDLE)
            if kept is not None:
                self._middle = self._coding.encode(kept)
            elif self._is_hull_asked(study):
                self._middle = self._middle_of(study)
                study.set_user_attr(MIDDLE, self._coding.params(self._middle))
        return self._middle

    def _is_hull_asked(self, study: Study) -> bool:
        """Whether some trial is done, and all that are to be asked on the hull are."""
        past = self._past(study)
        over = past.asked("hull") >= self._phases.hull or past.asked(*LATER) > 0
        return bool(over and past.done.any())

    def _middle_of(self, study: Study) -> Rows:
        """Of the measured front the setting that alone dominates the largest box."""
        surrogates = self._findings.surrogates()
        past, reference = self._past(study), self._known(study)
        view = look(self._coding, self._work, self._problem, past, reference, surrogates)
        able = np.flatnonzero(past.done)
        sides = 1 - np.clip(view.box.scaled(past.losses[able]), 0.0, 1.0)
        found: Rows = past.rows[able[int(sides.prod(axis=1).argmax())]]
        return found


def _least_epochs(space: Space) -> float:
    """The epochs that every setting has where training cannot be left out."""
    knob = next((knob for knob in space.knobs if knob.name == EPOCHS), None)
    return float(space.fixed.recovery.epochs if knob is None else knob.first)
