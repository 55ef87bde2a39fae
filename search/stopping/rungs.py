"""The settings of stopping, as configuration names them. A single rung stops nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressors.errors import UserError, choices
from search.stopping.ladder import Ladder, Steps
from search.stopping.scheduler import Rules, Scheduler


@dataclass(frozen=True)
class Rungs:
    """Rungs of growing fidelity, and who goes on from one to the next."""

    shares: Sequence[float] = (1.0,)  # of the validation data, rung by rung
    epochs: Sequence[float] = (1.0,)  # of a policy's own epochs, rung by rung
    keep: float = 1 / 3  # of a rung's trials go on
    least: float = 0.002  # of the front's hypervolume: who cannot add as much is stopped
    explore: float = 0.05  # of all trials run through whatever they report
    grace: int = 6  # trials of each rung and length of training that go on first
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _ = self.steps
        for name in ("keep", "least", "confidence"):
            _check_share(f"stopping.{name}", getattr(self, name), zero=name == "least")
        if not 0 <= self.explore <= 1:
            raise UserError(
                f"stopping.explore cannot be {self.explore:g}; valid: a number from 0 to 1."
            )
        if self.grace < 0:
            raise UserError(f"stopping.grace cannot be {self.grace}; valid: a whole number from 0.")

    @property
    def steps(self) -> Steps:
        """The rungs."""
        return Steps(tuple(self.shares), tuple(self.epochs))

    @property
    def stops(self) -> bool:
        """Whether there is anything to be stopped at."""
        return len(self.shares) > 1

    def ladder(self, epochs: int) -> Ladder:
        """What a policy with so many epochs of recovery climbs."""
        return self.steps.ladder(epochs)

    def check(self, objectives: Sequence[str], quality: str) -> None:
        """Refuse rungs where no objective tells them apart."""
        if self.stops and quality not in objectives:
            raise UserError(
                f"stopping compares qualities on its way, but the objectives are"
                f" {choices(objectives)}; valid: stopping=none, or quality among the objectives."
            )

    def scheduler(self, objectives: Sequence[str], quality: str, seed: int) -> Scheduler:
        """Who decides in a study of these objectives."""
        self.check(objectives, quality)
        rules = Rules(self.keep, self.least, self.explore, self.grace, self.confidence, seed)
        return Scheduler(len(objectives), list(objectives).index(quality), rules)


def _check_share(name: str, value: float, *, zero: bool) -> None:
    if not (0 < value < 1 or (zero and value == 0)):
        least = "from 0" if zero else "above 0"
        raise UserError(f"{name} cannot be {value:g}; valid: a number {least} and below 1.")


NOBODY = Rungs()  # is stopped
