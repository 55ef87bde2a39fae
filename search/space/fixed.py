"""What every policy of a space has in common, and which of it makes the space another.

Knows nothing of knobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressors.policies.policy import ORIGINAL, Recovery, Rounds, changed
from search.space.words import Words

# What every space's signature names. A setting that is added later is named where it is not at its
# default, so that studies which were begun before it go on.
_ALWAYS = (
    *("epochs", "learning_rate", "temperature", "weight"),
    *("batch_size", "optimizer", "schedule", "seed"),
)
_SIGNED = (("prune", "multiple"), ("prune", "criterion"), ("quantize", "ranges"))


@dataclass(frozen=True)
class Fixed:
    """What every policy of the space has in common: `defaults` by kind of step, then by key."""

    recovery: Recovery = field(default_factory=Recovery)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    open_ranges: bool = False  # a knob of their own decides the ranges
    equalize: bool = False
    rounds: Rounds = field(default_factory=Rounds)
    student: str = ORIGINAL

    def words(self, kind: str) -> Words:
        """The words that this space has for a kind of step."""
        is_open = self.open_ranges and kind == "quantize"
        return Words(kind, self.defaults.get(kind, {}), ("ranges",) if is_open else ())

    def signature(self) -> dict[str, Any]:
        """What of it makes a space another, as JSON-ready data."""
        always = {f"{kind}.{key}": self.defaults.get(kind, {}).get(key) for kind, key in _SIGNED}
        recovery = {f"recovery.{name}": getattr(self.recovery, name) for name in _ALWAYS}
        return {**always, **recovery, **self.unusual()}

    def unusual(self) -> dict[str, Any]:
        """The settings that came later and are not at their defaults, by name."""
        found = {
            f"{kind}.{key}": value
            for kind, keys in self.defaults.items()
            for key, value in keys.items()
            if (kind, key) not in _SIGNED and value
        }
        if self.equalize:
            found["equalize"] = True
        if self.rounds != Rounds():
            found["rounds"] = vars(self.rounds)
        if self.student != ORIGINAL:
            found["student"] = self.student
        later = {key: value for key, value in changed(self.recovery).items() if key not in _ALWAYS}
        return {**found, **{f"recovery.{key}": value for key, value in later.items()}}
