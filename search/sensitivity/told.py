"""How well a study's surrogates ranked what was measured, from its rows alone: for reports.

Plainly on settings drawn at random, and at fixed cost on those that lie near the front, where
size alone would rank well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.sensitivity.ranking import at_fixed_cost, rank_correlation
from search.study.ledger import StudyRows, TrialRow

RANDOM = ("explore",)
FEWEST = 6


@dataclass(frozen=True)
class Ranking:
    """One surrogate's rank correlations; None where too few settings tell."""

    surrogate: str
    plain: float | None  # on settings drawn at random
    drawn: int
    at_fixed_cost: float | None  # on all others
    near: int


def rankings(rows: StudyRows, quality: str) -> list[Ranking]:
    """Of every surrogate that the study's trials name; `quality` is that objective's name."""
    names = [objective.name for objective in rows.objectives]
    if quality not in names:
        return []
    place = names.index(quality)
    sign = 1.0 if rows.objectives[place].direction == "minimize" else -1.0
    told = [row for row in rows.complete() if row.guessed and row.phase != "recovery"]
    drawn = [row for row in told if row.phase in RANDOM]
    near = [row for row in told if row.phase not in RANDOM]
    surrogates = dict.fromkeys(name for row in told for name in row.guessed)
    return [_ranking(name, drawn, near, place, sign) for name in surrogates]


def _ranking(
    name: str, drawn: list[TrialRow], near: list[TrialRow], place: int, sign: float
) -> Ranking:
    some = [row for row in drawn if name in row.guessed]
    others = [row for row in near if name in row.guessed]
    plain = fixed = None
    if len(some) >= FEWEST:
        guesses, damage, _ = _columns(name, some, place, sign)
        plain = rank_correlation(guesses, damage)
    if len(others) >= FEWEST:
        fixed = at_fixed_cost(*_columns(name, others, place, sign))
    return Ranking(name, plain, len(some), fixed, len(others))


def _columns(
    name: str, rows: list[TrialRow], place: int, sign: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Guesses, losses of quality, and the other objectives."""
    values = np.array([row.values for row in rows], dtype=np.float64)
    guesses = np.array([row.guessed[name] for row in rows])
    return guesses, sign * values[:, place], np.delete(values, place, axis=1)
