"""Training after the cuts: what it takes, and how its own knobs are set.

How long a trial takes is read off those that finished. The knobs of training but for its epochs
(learning rate, temperature, …) are left to a small TPE of its own, which sees of each trained
setting how much better it came out than was expected.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from search.sensitivity.forecast import FLOOR, damage_of
from search.sensitivity.past import EPOCHS, Past
from search.sensitivity.view import View
from search.space.knobs import Knob
from search.space.space import Space

Floats = NDArray[np.float64]
PLAIN = 2  # trained settings that take the knobs' middle, before the TPE is asked
START = 4  # of them that it draws at random itself
LATEST = 60  # trials that it is shown at most


@dataclass(frozen=True)
class Seconds:
    """How long a trial takes: without training, and for each epoch more."""

    base: float
    epoch: float

    def __call__(self, epochs: Floats) -> Floats:
        """Seconds, of trials with so many epochs."""
        return self.base + self.epoch * epochs


def seconds(past: Past) -> Seconds:
    """What the finished trials took; an epoch is worth a trial until one was timed."""
    known = np.isfinite(past.seconds) & (past.seconds > 0)
    trained = past.trained
    short, long = known & (trained == 0), known & (trained > 0)
    base = float(np.median(past.seconds[short])) if short.any() else 1.0
    each = (past.seconds[long] - base) / trained[long]
    return Seconds(base, max(float(np.median(each)), 1e-3) if long.any() else base)


def choices_of_epochs(space: Space) -> list[float]:
    """The epochs that a trial may have more than the least; none where there is no choice."""
    knob = next((knob for knob in space.knobs if knob.name == EPOCHS), None)
    return [] if knob is None else sorted(float(value) for value in knob.values)[1:]


def knobs_of_training(view: View, seed: int) -> dict[str, Any]:
    """Values for the knobs of training, but for epochs."""
    knobs = [k for k in view.coding.space.of_kind("recovery") if k.name != EPOCHS]
    past = view.past
    trained = np.flatnonzero(past.done & (past.epochs > 0))[-LATEST:]
    soon = np.count_nonzero(past.in_flight & (past.epochs > 0))
    if not knobs or len(trained) + soon < PLAIN:
        return {knob.name: knob.first for knob in knobs}
    worth = _surprise(view, trained)
    shown = [(past.params[place], value) for place, value in zip(trained, worth, strict=True)]
    return _suggested(knobs, shown, seed)


def _surprise(view: View, trained: NDArray[np.intp]) -> Floats:
    """How much more damage was measured than expected, on a logarithmic scale."""
    quality, past = view.forecast.quality, view.past
    if quality is None:
        return np.zeros(len(trained))
    assert view.problem.place is not None
    losses = past.losses[:, view.problem.place]
    damage = damage_of(view.problem, losses, view.reference)[trained]
    expected = quality.logs(view.coding.settings(past.rows[trained]), past.epochs[trained])
    found: Floats = np.log(damage + FLOOR) - expected
    return found


def _suggested(
    knobs: Sequence[Knob], shown: Sequence[tuple[Mapping[str, Any], float]], seed: int
) -> dict[str, Any]:
    space: dict[str, BaseDistribution] = {k.name: k.domain.distribution() for k in knobs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = TPESampler(seed=seed, n_startup_trials=PLAIN + START, multivariate=True)
    study = optuna.create_study(sampler=sampler)
    study.add_trials(
        create_trial(params={n: params[n] for n in space}, distributions=space, value=value)
        for params, value in shown
        if all(name in params for name in space)
    )
    return dict(study.ask(space).params)
