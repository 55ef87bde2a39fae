"""Training that stopped making sense: numbers that are none, found and named."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compressors.policies.policy import Recovery


class RecoveryDiverged(Exception):
    """Something stopped being a number; says what and where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_loss(value: float, epoch: int, settings: Recovery) -> None:
    """Refuse a loss that is no number."""
    if not math.isfinite(value):
        raise _diverged(f"the loss became {value}", epoch, settings)


def check_weights(
    model: nn.Module, trained: Iterable[Tensor], epoch: int, settings: Recovery
) -> None:
    """Refuse weights that are no numbers, of those that were trained."""
    wanted = {id(parameter) for parameter in trained}
    for name, parameter in model.named_parameters():
        if id(parameter) in wanted and not is_finite(parameter):
            raise _diverged(f"'{name}' became {_what(parameter)}", epoch, settings)


def check_outputs(outputs: Tensor, epoch: int, settings: Recovery) -> None:
    """Refuse outputs that are no numbers."""
    if not is_finite(outputs):
        what = f"the outputs became {_what(outputs)}"
        raise _diverged(what, epoch, settings)


@torch.no_grad()
def is_finite(tensor: Tensor) -> bool:
    """Whether all values are numbers."""
    return bool(torch.isfinite(tensor).all())


def _what(tensor: Tensor) -> str:
    return "nan" if bool(torch.isnan(tensor).any()) else "inf"


def _diverged(what: str, epoch: int, settings: Recovery) -> RecoveryDiverged:
    return RecoveryDiverged(
        f"Recovery diverged: {what} in epoch {epoch + 1} of {settings.epochs} (learning rate"
        f" {settings.learning_rate:g})."
    )
