"""What a file is made of: operators at their prices, and how much two of them have in common.

An operator takes more or less than its price says: the price is uncertain, and where it was taken
is not where the operator stands. Operators of one kind and of near sizes are off alike, so that
what one was found to take beyond its price tells of others, also of those that nobody has timed.
Knows nothing of how it is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, log2

import numpy as np
from numpy.typing import NDArray

from evaluation.measuring.operators import Operator, Price

WITHIN_95 = 1.96  # standard deviations
OWN = 0.1  # of its price: the width of what an operator takes beyond it, were the price certain
ALIKE = 0.9  # of that, as a variance: the share in which operators of the same sizes are off alike
NEAR = 3.0  # doublings of a size within which they are

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """An operator of a file, its price, and what other operators it resembles."""

    key: str
    family: str
    milliseconds: float
    spread_ms: float = 0.0
    kind: str = ""
    sizes: tuple[float, ...] = ()  # in doublings, as many for all of a kind

    @staticmethod
    def of(operator: Operator, price: Price) -> Part:
        """An operator at its price."""
        tensors = [[int(size) for size in each.split("x")] for each in operator.shape.split()]
        tensors = [tensor for tensor in tensors if min(tensor) > 0]  # others are not there
        ranks = ",".join(str(len(tensor)) for tensor in tensors)
        return Part(
            operator.key,
            operator.family,
            price.median_ms,
            price.spread_ms,
            f"{operator.op} {operator.precision} {ranks}",
            tuple(log2(size) for tensor in tensors for size in tensor),
        )

    @property
    def width_ms(self) -> float:
        """How much it may well take beyond its price, or less: a standard deviation."""
        return hypot(OWN * self.milliseconds, self.spread_ms / WITHIN_95)


@dataclass(frozen=True)
class Priced:
    """A file: what it is made of, and its size."""

    parts: tuple[Part, ...]
    megabytes: float

    @property
    def total(self) -> float:
        """The sum of the prices."""
        return sum(part.milliseconds for part in self.parts)


def common(parts: Sequence[Part], others: Sequence[Part]) -> Array:
    """The covariance of what operators of one kind take beyond their prices."""
    alike = np.exp(-_apart(parts, others) / (2 * NEAR**2))
    same = np.equal.outer([part.key for part in parts], [other.key for other in others])
    widths = np.outer([part.width_ms for part in parts], [other.width_ms for other in others])
    return np.asarray(widths * (ALIKE * alike + (1 - ALIKE) * same))


def _apart(parts: Sequence[Part], others: Sequence[Part]) -> Array:
    """How many doublings lie between their sizes, squared."""
    ones, twos = (np.array([part.sizes for part in of]) for of in (parts, others))
    squares = (ones**2).sum(1)[:, None] + (twos**2).sum(1)[None] - 2 * ones @ twos.T
    return np.asarray(np.maximum(squares, 0.0))
