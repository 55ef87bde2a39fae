"""The phases of a search by sensitivities: from a view of the study to the next setting to try.

Hull, then a genetic search on the surrogate, then refinement with a share of exploration. Which
phase it is follows from how many trials each has been asked for, so that a search goes on where it
stopped. Knows no Optuna; `sampler` puts it into a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.sensitivity import screening
from search.sensitivity.bisection import widest
from search.sensitivity.coding import Rows, Settings
from search.sensitivity.descent import hull
from search.sensitivity.genetic import evolve, offspring
from search.sensitivity.plan import Phases
from search.sensitivity.training import knobs_of_training, seconds
from search.sensitivity.view import View

Floats = NDArray[np.float64]
CANDIDATES = 150  # of each round
ROUNDS = 2
PARENTS = 60
TRIES = 8  # draws, to find a setting that is new
FEW = 4  # trials done, before which gaps say little: many workers start apart from each other


@dataclass(frozen=True)
class Idea:
    """A setting to try, what for, and what is expected of it by name."""

    row: Rows
    phase: str
    predicted: dict[str, float]
    guessed: dict[str, float]  # the damage of each surrogate
    epochs: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)  # the knobs of training, where given


@dataclass
class Brain:
    """Proposes settings; keeps only what is dear to compute and follows from findings."""

    phases: Phases
    seed: int
    least_epochs: float = 0.0  # that every setting has at least
    epochs: tuple[float, ...] = ()  # that it may have instead
    _fronts: dict[tuple[str, str], Rows] = field(default_factory=dict)

    def propose(self, view: View, number: int) -> Idea:
        """The setting for the trial of that number; from the hull on it trains as training went."""
        random = np.random.default_rng([self.seed, number])
        idea = self._proposed(view, random)
        if idea.epochs <= 0 or idea.phase in ("hull", "offline"):
            return idea
        return replace(idea, training=knobs_of_training(view, int(random.integers(2**31))))

    def _proposed(self, view: View, random: np.random.Generator) -> Idea:
        for phase, count in (("hull", self.phases.hull), ("offline", self.phases.offline)):
            if view.past.asked(phase) < count and view.problem.has_front:
                row = self._bisected(view, self._surrogate_front(view, phase))
                if row is not None:
                    return self._idea(view, row, phase)
        if random.random() < self.phases.explore:
            return self._explored(view, random)
        if view.problem.place is not None and view.forecast.quality is None:
            return self._explored(view, random)  # too little is measured to expect anything
        if self.epochs and random.random() < self.phases.recover:
            return self._recovered(view, random)
        return self._refined(view, random)

    def _surrogate_front(self, view: View, phase: str) -> Rows:
        """The hull of the cheapest surrogate; offline, what evolves from it on the best."""
        guess = view.surrogates[0] if phase == "hull" else view.surrogate
        key = phase, guess.name
        if key not in self._fronts and phase == "hull":
            self._fronts[key] = hull(view.coding, guess, lambda s: _shares(view, s))
        elif key not in self._fronts:
            start = self._surrogate_front(view, "hull")
            random = np.random.default_rng([self.seed, 1])
            self._fronts[key] = evolve(view.coding, lambda s: _priced(view, s), start, random)
        return self._fronts[key]

    def _bisected(self, view: View, rows: Rows) -> Rows | None:
        place = view.problem.place
        assert place is not None
        settings = view.coding.settings(rows)
        costs = view.scaled_costs(settings)
        useful = np.nan_to_num(costs, nan=0.0).max(axis=1) <= 1
        useful &= screening.excess(view.problem, view.forecast.priced(settings), len(rows)) <= 0
        rows = rows[useful] if useful.any() else rows
        for end in (rows[:1], rows[-1:]):
            left = view.untried(end, self.least_epochs)
            if len(left) and view.past.asked("hull", "offline") < 2:
                end_row: Rows = left[0]
                return end_row
        rows = view.untried(rows, self.least_epochs)
        if not len(rows):
            return None
        costs = view.scaled_costs(view.coding.settings(rows))
        found = widest(view.measured, costs, place)
        if found is None and np.count_nonzero(view.past.done) < FEW:
            tried = view.scaled_costs(view.coding.settings(view.past.rows))
            found = _farthest(np.delete(tried, place, 1), np.delete(costs, place, 1))
        return None if found is None else rows[found]

    def _explored(self, view: View, random: np.random.Generator) -> Idea:
        """A member of the front with any share of its choices drawn anew."""
        front = view.front
        for _ in range(TRIES):
            row = front[random.integers(len(front))]
            fresh = random.random(len(row)) < random.random()
            drawn = np.where(fresh, view.coding.draw(random, 1)[0], row)
            row = view.coding.canonical(drawn[None])[0]
            if len(view.untried(row[None], self.least_epochs)):
                break
        return self._idea(view, row, "explore")

    def _refined(self, view: View, random: np.random.Generator) -> Idea:
        """A child of the front: the largest expected gain."""
        parents, best = view.front, None
        for _ in range(ROUNDS):
            children = view.coding.canonical(offspring(view.coding, parents, CANDIDATES, random))
            rows = view.untried(np.unique(children, axis=0), self.least_epochs)
            if not len(rows):
                continue
            settings = view.coding.settings(rows)
            gain, place = self._screened(view, settings)
            if best is None or gain[place] > best[0]:
                best = float(gain[place]), rows[place]
            top = rows[np.argsort(-gain, kind="stable")[:PARENTS]]
            parents = np.concatenate([view.front, top])
        return self._explored(view, random) if best is None else self._idea(view, best[1], "refine")

    def _recovered(self, view: View, random: np.random.Generator) -> Idea:
        """Training where it pays: the largest expected gain for each second."""
        lately = view.past.rows[view.past.epochs > self.least_epochs]
        known = [self._surrogate_front(view, "hull")] if view.problem.has_front else []
        parents = np.concatenate([view.front, lately, *known])
        children = offspring(view.coding, parents, CANDIDATES, random)
        rows = np.unique(view.coding.canonical(np.concatenate([parents, children])), axis=0)
        takes = seconds(view.past)
        best: tuple[float, Rows, float] | None = None
        for epochs in self.epochs:
            left = view.untried(rows, epochs)
            if not len(left):
                continue
            gain, place = self._screened(view, view.coding.settings(left), epochs)
            rate = float(gain[place] / takes(np.array(epochs)))
            if best is None or rate > best[0]:
                best = rate, left[place], epochs
        if best is None:
            return self._explored(view, random)
        return self._idea(view, best[1], "recovery", best[2])

    def _screened(
        self, view: View, settings: Settings, epochs: float | None = None
    ) -> tuple[Floats, int]:
        """Expected gains, and the place of the setting to measure."""
        trained = np.full(len(settings), self.least_epochs if epochs is None else epochs)
        priced = view.forecast.priced(settings)
        losses = view.forecast.losses(settings, trained, priced)
        if np.isnan(losses).any():
            return np.zeros(len(settings)), 0
        gain = screening.expected_gain(losses, view.reached, view.box)
        broken = screening.excess(view.problem, priced, len(settings))
        away, left = (f(losses, view.box) for f in (screening.outside, screening.short))
        return gain, screening.best(gain, broken, away, left)

    def _idea(self, view: View, row: Rows, phase: str, epochs: float | None = None) -> Idea:
        settings = view.coding.settings(row[None])
        trained = self.least_epochs if epochs is None else epochs
        priced = view.forecast.priced(settings)
        losses = view.forecast.losses(settings, np.array([trained]), priced)[0]
        middle = losses[len(losses) // 2]
        outer = {name: float(priced[name][0]) for name in view.problem.outer}
        guessed = {guess.name: float(guess(settings)[0]) for guess in view.surrogates}
        return Idea(row, phase, {**view.problem.values(middle), **outer}, guessed, trained)


def _farthest(tried: Floats, costs: Floats) -> int:
    """The place of the costs that are most unlike those tried; in the middle where none are."""
    if not len(tried):
        return len(costs) // 2
    apart = np.linalg.norm(costs[:, None, :] - tried[None, :, :], axis=2).min(axis=1)
    return int(apart.argmax())


def _shares(view: View, settings: Settings) -> Floats:
    """Costs that are objectives, as shares of the keep-everything setting's."""
    priced = view.forecast.priced(settings)
    whole = view.forecast.priced(view.coding.settings(np.zeros_like(settings.rows[:1])))
    names = [name for name in view.problem.names if name in priced]
    return np.stack([priced[name] / max(float(whole[name][0]), 1e-12) for name in names], axis=1)


def _priced(view: View, settings: Settings) -> Floats:
    """The surrogate's damage on a logarithmic scale, beside those shares."""
    return np.column_stack([np.log(view.surrogate(settings)), _shares(view, settings)])
