"""What the search thought beforehand: probes, and how well the surrogates ranked what was measured.

Reads a study's rows alone. Studies of samplers that have no surrogates have nothing to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.measurement import COSTS
from search.sensitivity.told import Ranking, rankings
from search.study.ledger import StudyRows
from search.views.figures import count, duration

COST_NAMES = frozenset(metric.name for metric in COSTS)
SAID = {
    "gauss_newton": "squared gradients",
    "additive": "sum of the damages of single changes",
    "logit_additive": "sum of the changes of outputs",
}


@dataclass(frozen=True)
class Surrogates:
    """What the report says of them."""

    probes: str
    lines: tuple[tuple[str, str, str], ...]  # surrogate, near the front at fixed cost, at random


def surrogates(rows: StudyRows) -> Surrogates | None:
    """The words and the table; None where the study has neither probes nor surrogates."""
    quality = next((o.name for o in rows.objectives if o.name not in COST_NAMES), None)
    found = rankings(rows, quality) if quality else []
    if not found and not rows.probes:
        return None
    return Surrogates(_probes(rows), tuple(_line(ranking) for ranking in found))


def _probes(rows: StudyRows) -> str:
    if not rows.probes:
        return ""
    asked = sum(probe.policies for probe in rows.probes)
    spent = sum(probe.evaluations for probe in rows.probes)
    took = duration(sum(probe.seconds for probe in rows.probes))
    failed = [probe.reason for probe in rows.probes if probe.reason]
    end = f" {count(len(failed), 'probe')} failed: {failed[0]}" if failed else ""
    return (
        f"{count(asked, 'single change')} probed in {took} of work, which counts as "
        f"{spent:.1f} evaluations.{end}"
    )


def _line(ranking: Ranking) -> tuple[str, str, str]:
    return (
        SAID.get(ranking.surrogate, ranking.surrogate),
        _share(ranking.at_fixed_cost, ranking.near),
        _share(ranking.plain, ranking.drawn),
    )


def _share(correlation: float | None, trials: int) -> str:
    told = "too few" if correlation is None else f"{correlation:.2f}"
    return f"{told} ({count(trials, 'trial')})"
