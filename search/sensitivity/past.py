"""A study's trials as arrays, read once each: what a sampler may know, and nothing of its own.

Trials in flight count with what was predicted of them, or is expected where they wait at a rung.
Knows the attributes' names, and no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.sensitivity.coding import Coding, Rows
from search.study import ledger
from search.study.problem import Problem

Floats = NDArray[np.float64]
Glimpses = tuple[tuple[float, float], ...]  # epochs, and the loss of quality after them
EPOCHS = "recovery/epochs"


@dataclass(frozen=True)
class Past:
    """Trials in order: those that count, in whatever state, with a line each."""

    numbers: NDArray[np.int64]
    rows: Rows
    epochs: Floats  # asked for
    losses: Floats  # measured where `done`, of a trial in flight predicted; NaN where unknown
    costs: Mapping[str, Floats]  # measured; NaN where not
    done: NDArray[np.bool_]  # complete
    in_flight: NDArray[np.bool_]  # running, or waiting to run
    stopped: NDArray[np.bool_]  # ended early: losses are a poorer measurement's
    glimpses: tuple[Glimpses, ...]  # what each measured on its way, and in the end where `done`
    expected: Floats  # of one that was stopped, or waits, the loss of quality in the end; else NaN
    feasible: NDArray[np.bool_]
    seconds: Floats
    phases: tuple[str | None, ...]
    params: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def trained(self) -> Floats:
        """The epochs that each is trained by now: of those stopped, less than asked for."""
        ran = [seen[-1][0] if seen else 0.0 for seen in self.glimpses]
        return np.where(self.stopped, ran, self.epochs)

    def asked(self, *phases: str) -> int:
        """How many trials were asked for this."""
        return sum(phase in phases for phase in self.phases)

    def seen(self) -> tuple[NDArray[np.intp], Floats, Floats]:
        """All that is known of quality: trials' places, the epochs by then, the loss.

        Beside what was measured, what those that went no further were expected to end with.
        """
        told = [
            (place, epochs, loss)
            for place, seen in enumerate(self.glimpses)
            for epochs, loss in seen
            if np.isfinite(loss)
        ]
        ends = enumerate(zip(self.epochs, self.expected, strict=True))
        told += [(place, epochs, loss) for place, (epochs, loss) in ends if np.isfinite(loss)]
        places, epochs, losses = np.array(told, dtype=np.float64).reshape(-1, 3).T
        return places.astype(np.intp), epochs, losses


def _joined(first: Past, second: Past) -> Past:
    """The trials of both, in this order."""
    if not len(second):
        return first
    names = [field.name for field in fields(Past)]
    return Past(
        **{name: _end_to_end(getattr(first, name), getattr(second, name)) for name in names}
    )


def _end_to_end(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {name: np.concatenate([first[name], second[name]]) for name in first}
    return first + second if isinstance(first, tuple) else np.concatenate([first, second])


@dataclass(frozen=True)
class _Entry:
    row: Rows
    epochs: float
    losses: tuple[float, ...]
    costs: tuple[float, ...]
    done: bool
    in_flight: bool
    stopped: bool
    glimpses: Glimpses
    expected: float
    feasible: bool
    seconds: float
    phase: str | None
    params: Mapping[str, Any]


class Reader:
    """Reads trials; those that are finished only once."""

    def __init__(self, coding: Coding, problem: Problem) -> None:
        self._coding = coding
        self._problem = problem
        self._epochs = float(coding.space.fixed.recovery.epochs)  # where there is no knob for them
        self._finished: dict[int, _Entry] = {}  # of those after the settled
        self._settled = self._arrays({})  # the first trials, as far as all are finished
        self._count = 0  # how many these are, those without parameters among them

    def read(self, trials: Sequence[FrozenTrial], but: int = -1) -> Past:
        """All trials with parameters, but the one of that number."""
        settled = list(takewhile(lambda t: t.state.is_finished(), trials[self._count :]))
        if settled:
            self._count += len(settled)
            self._settled = _joined(self._settled, self._arrays(self._entries(settled)))
            for trial in settled:
                self._finished.pop(trial.number, None)
        left = [trial for trial in trials[self._count :] if trial.number != but]
        return _joined(self._settled, self._arrays(self._entries(left)))

    def _entries(self, trials: Sequence[FrozenTrial]) -> dict[int, _Entry]:
        entries = {}
        for trial in trials:
            if not trial.params:
                continue
            entry = self._finished.get(trial.number)
            if entry is None:
                entry = self._entry(trial)
                if trial.state.is_finished():
                    self._finished[trial.number] = entry
            entries[trial.number] = entry
        return entries

    def _entry(self, trial: FrozenTrial) -> _Entry:
        attributes = trial.user_attrs
        measured = {row["name"]: row["value"] for row in attributes.get(ledger.MEASUREMENT) or ()}
        known: Mapping[str, Any] = measured
        if trial.state is TrialState.COMPLETE:
            known = {**measured, **dict(zip(self._problem.names, trial.values, strict=False))}
        elif not trial.state.is_finished():
            known = self._foreseen(attributes)
        values = [known.get(name, np.nan) for name in self._problem.names]
        finished = trial.state.is_finished()
        epochs = float(trial.params.get(EPOCHS, self._epochs))
        losses = tuple(self._problem.losses(values))
        return _Entry(
            row=self._coding.canonical(self._coding.encode(trial.params)[None])[0],
            epochs=epochs,
            losses=losses,
            costs=tuple(known.get(n, np.nan) if finished else np.nan for n in self._problem.priced),
            done=trial.state is TrialState.COMPLETE,
            in_flight=not finished,
            stopped=trial.state is TrialState.PRUNED,
            glimpses=self._glimpses(trial, epochs, losses),
            expected=self._expected(trial),
            feasible=ledger.feasible(tuple(trial.constraints.values())),
            seconds=float(attributes.get(ledger.SECONDS, np.nan)),
            phase=attributes.get(ledger.PHASE),
            params=trial.params,
        )

    def _foreseen(self, attributes: Mapping[str, Any]) -> Mapping[str, float]:
        """What a trial in flight is to come to: by its rungs where it waits, else as predicted."""
        expected = attributes.get(ledger.EXPECTED)
        if expected is None:
            return attributes.get(ledger.PREDICTED) or {}
        return dict(zip(self._problem.names, expected, strict=False))

    def _expected(self, trial: FrozenTrial) -> float:
        values = trial.user_attrs.get(ledger.EXPECTED)
        place = self._problem.place
        if values is None or place is None or trial.state in (TrialState.COMPLETE, TrialState.FAIL):
            return math.nan
        return float(self._problem.losses(values)[place])

    def _glimpses(self, trial: FrozenTrial, epochs: float, losses: Sequence[float]) -> Glimpses:
        """The last of each length of training; the whole measurement last."""
        place = self._problem.place
        if place is None:
            return ()
        found: dict[float, float] = {}
        for told in trial.user_attrs.get(ledger.RUNGS, ()):
            measured = {row["name"]: row["value"] for row in told["measurement"]}
            values = [measured.get(name, np.nan) for name in self._problem.names]
            found[float(told["epochs"])] = self._problem.losses(values)[place]
        if trial.state is TrialState.COMPLETE:
            found[epochs] = losses[place]
        return tuple(sorted(found.items()))

    def _arrays(self, entries: Mapping[int, _Entry]) -> Past:
        found = list(entries.values())
        width = len(self._problem.names)
        costs = np.array([e.costs for e in found]).reshape(len(found), len(self._problem.priced))
        return Past(
            numbers=np.array(list(entries), dtype=np.int64),
            rows=np.array([e.row for e in found], dtype=np.int16).reshape(
                len(found), len(self._coding)
            ),
            epochs=np.array([e.epochs for e in found]),
            losses=np.array([e.losses for e in found]).reshape(len(found), width),
            costs={name: costs[:, place] for place, name in enumerate(self._problem.priced)},
            done=np.array([e.done for e in found], dtype=bool),
            in_flight=np.array([e.in_flight for e in found], dtype=bool),
            stopped=np.array([e.stopped for e in found], dtype=bool),
            glimpses=tuple(e.glimpses for e in found),
            expected=np.array([e.expected for e in found], dtype=np.float64),
            feasible=np.array([e.feasible for e in found], dtype=bool),
            seconds=np.array([e.seconds for e in found]),
            phases=tuple(e.phase for e in found),
            params=tuple(e.params for e in found),
        )
