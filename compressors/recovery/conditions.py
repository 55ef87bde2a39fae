"""What recovery takes from whoever holds the model: what happens around its steps, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compressors.policies.policy import Scales


def _nothing(*_: object) -> None:
    """Stands where the caller has nothing to do."""


@dataclass(frozen=True)
class Conditions:
    """Calls around the steps of a training; all of it may be left out."""

    blocks: tuple[str, ...] = ()  # hints where the policy names none
    on_step: Callable[[], None] = _nothing  # before every batch: may pause or abort
    after_step: Callable[[], None] = _nothing  # after every optimiser step: masks hold zeros
    recalibrate: Callable[[], None] = _nothing  # finds activations' ranges again
    renew_norms: Callable[[], None] = _nothing  # takes batch norms' statistics anew
    set_scales: Callable[[Scales], None] = _nothing  # how quantisers' steps behave meanwhile
    freeze_scales: Callable[[], None] = _nothing  # and afterwards
    epochs: int | None = None  # end after so many, within the schedule of them all
    checkpoint: Path | None = None  # where the state is kept from epoch to epoch
    stamp: str = ""  # what a kept state must belong to, besides its start: the policy's id
    note: Callable[[str], None] = _nothing  # hears what could not be done, and why
