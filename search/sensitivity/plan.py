"""How many trials each phase of a search by sensitivities takes, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from compressors.errors import UserError


@dataclass(frozen=True)
class Phases:
    """Trials on the hull of the first surrogate, then on a genetic front, then refinement.

    `explore` is the share of the rest that is drawn at random, `recover` the share that goes to
    training where the space has any. `changes` says whether the changes of outputs around the
    front's middle are probed once the hull is measured.
    """

    hull: int = 10
    offline: int = 10
    explore: float = 0.1
    recover: float = 0.8
    changes: bool = True

    def within(self, trials: int | None, *, trains: bool) -> Phases:
        """The phases of a search of so many trials: at most half of them before refinement.

        Fewer where the space trains, as the front before training is only its beginning.
        """
        if trials is None:
            return self
        first, second = (5, 10) if trains else (4, 4)
        hull, offline = ceil(trials / first), trials // second
        return replace(self, hull=min(self.hull, hull), offline=min(self.offline, offline))

    def __post_init__(self) -> None:
        for name in ("hull", "offline"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"sampler.{name} cannot be {getattr(self, name)}; valid: a whole number from 0."
                )
        for name in ("explore", "recover"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"sampler.{name} cannot be {getattr(self, name)}; valid: a share, 0 to 1."
                )
