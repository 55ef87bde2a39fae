"""How thoroughly a policy is evaluated: on how much of the data, after how much of its training.

Plain data; knows neither torch nor who decides that a policy is worth more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fidelity:
    """The whole of everything, unless a smaller share is named."""

    share: float = 1.0  # of the validation split: its fixed first part
    epochs: int | None = None  # of the policy's recovery, whose schedule stays; None: all of them

    @property
    def whole(self) -> bool:
        """Whether it is an evaluation in full, whose numbers are the policy's."""
        return self.share >= 1.0 and self.epochs is None


WHOLE = Fidelity()
