"""What a simulation draws its results from: a table of policies, recorded or by a formula.

Everything here is a function of its arguments: chance is drawn from hashes of what it concerns, so
that a result is the same whoever asks, whenever and in whichever order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Protocol

from compressors.policies.policy import Policy
from evaluation.fidelity import Fidelity
from evaluation.measurement import Measurement, Value
from evaluation.probing.probe import Finding, Probe

_NORMAL = NormalDist()


class Unknown(Exception):
    """What the table cannot say, with the reason in a sentence."""


@dataclass(frozen=True)
class Result:
    """What evaluating a policy gives, and what it would have taken."""

    measurement: Measurement
    seconds: float  # without training
    evaluations: float
    training: float = 0.0  # seconds of it from the start, whatever an earlier rung trained
    record: Mapping[str, Any] = field(default_factory=dict)


class Table(Protocol):
    """Where results come from."""

    @property
    def words(self) -> str:
        """What it is, for records and reports; another table has other words."""
        ...

    def result(self, policy: Policy, fidelity: Fidelity) -> Result:
        """What a policy gives at a fidelity; raises Unknown."""
        ...

    def price(self, probe: Probe) -> float:
        """What a probe will take, in evaluations; nothing where its finding is unknown."""
        ...

    def finding(self, probe: Probe) -> Finding:
        """What a probe finds; raises Unknown."""
        ...


def uniform(*about: object) -> float:
    """A number between 0 and 1, neither of them, that follows from what it is about."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def normal(*about: object) -> float:
    """A standard normal number that follows from what it is about."""
    return _NORMAL.inv_cdf(uniform(*about))


def on_a_share(whole: Value, share: float, *about: object) -> Value:
    """A quality as the first share of the split would show it.

    The share is a part of the split, so that its error against the whole has the variance of the
    part less that of the whole. Values of a unit interval stay there.
    """
    if share >= 1 or not whole.spread:
        return whole
    shift = normal("share", share, *about) * whole.spread * math.sqrt(1 / share - 1)
    value = whole.value + shift
    if whole.metric.unit == "fraction":
        value = min(max(value, 0.0), 1.0)
    return Value(whole.metric, value, whole.spread / math.sqrt(share))
