"""The seam between a sampler that wants to know things before it asks and whoever finds them out.

Any Optuna sampler with these two methods is one; those without are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import optuna

from evaluation.probing.probe import Finding, Probe


@runtime_checkable
class Curious(Protocol):
    """A sampler that wants to know things before it asks."""

    def wants(self, study: optuna.Study) -> Sequence[Probe]:
        """What is to be found out before the next trial; empty where nothing is wanted now.

        Asked again once everything that it wanted is learned, in the order in which it wanted it;
        and before every trial, so that it has to be quick.
        """
        ...

    def learn(self, probe: Probe, finding: Finding | None) -> None:
        """Take what was found; None: it failed, the budget has no room, or nobody knows its price.

        What failed is not tried again in this study, what was not sent is not in this run.
        """
        ...
