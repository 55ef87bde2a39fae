"""A knob: one decision of a space, what it controls and the values it may take.

Knows how to become an Optuna distribution, and nothing of policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from search.space.options import Choice

KnobKind = Literal[
    "depth", "heads", "prune", "lowrank", "sparsify", "quantize", "policy", "recovery"
]


@dataclass(frozen=True)
class Choices:
    """A list of values, in order where they have one; the first does nothing, or the least."""

    values: tuple[Choice, ...]

    def distribution(self) -> BaseDistribution:
        """The list as Optuna knows it."""
        return CategoricalDistribution(self.values)

    def signature(self) -> list[Any]:
        """The list as JSON-ready data."""
        return list(self.values)

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """A continuous range."""

    low: float
    high: float
    log: bool = False

    def distribution(self) -> BaseDistribution:
        """The range as Optuna knows it."""
        return FloatDistribution(self.low, self.high, log=self.log)

    def signature(self) -> dict[str, Any]:
        """The range as JSON-ready data."""
        return {"low": self.low, "high": self.high, "log": self.log}

    @property
    def middle(self) -> float:
        """The value half way, on the range's own scale."""
        return float((self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Knob:
    """One decision; `controls` names the blocks, attentions, group roots or layers it holds for.

    The kind `policy` is of decisions over all layers at once.
    """

    name: str
    kind: KnobKind
    domain: Choices | Range
    controls: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Choice, ...]:
        """The listed choices; none of a range."""
        return self.domain.values if isinstance(self.domain, Choices) else ()

    @property
    def first(self) -> Any:
        """The value that does nothing, or the least; of a range the middle."""
        return self.domain.values[0] if isinstance(self.domain, Choices) else self.domain.middle

    def signature(self) -> dict[str, Any]:
        """What makes this knob this knob, as JSON-ready data."""
        return {"controls": list(self.controls), "values": self.domain.signature()}
