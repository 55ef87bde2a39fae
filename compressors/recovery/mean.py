"""The mean of weights over an epoch: where a training that is looked at on its way is heading.

In the middle of a schedule, at its highest learning rates, weights leap about a good place and are
good nowhere; their mean lies near it, and tells of the end what the weights themselves do not.
Knows nothing of schedules, nor of what else a model needs with other weights (its norms, ranges).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Mean:
    """The running mean of some parameters; there is none until the first `add`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._count = 0
        self.values: list[Tensor] = []

    def begin(self) -> None:
        """Forget what was added."""
        self.values, self._count = [], 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters in as they are now."""
        self._count += 1
        if not self.values:
            self.values = [torch.zeros_like(p, dtype=_wide(p)) for p in self._parameters]
        for value, parameter in zip(self.values, self._parameters, strict=True):
            value.lerp_(parameter.to(value.dtype), 1 / self._count)

    @torch.no_grad()
    def put_in(self) -> None:
        """Give the parameters their means."""
        for value, parameter in zip(self.values, self._parameters, strict=True):
            parameter.copy_(value)


def _wide(parameter: Tensor) -> torch.dtype:
    """At least float32: in half precision a mean of many would stand still."""
    return torch.promote_types(parameter.dtype, torch.float32)
