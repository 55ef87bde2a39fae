"""A recovery with everything that a checkpoint must keep; run as a program, it can be killed.

Dropout, batch norms, momentum, projections, learned scales, and ranges that recalibrations fix.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from compressors.policies.policy import Recovery, Scales
from compressors.recovery.conditions import Conditions
from compressors.recovery.recovery import recover
from compressors.recovery.teacher import Teacher
from tests.compressors.recovery.networks import Staged, made
from tests.compressors.tiny import Images

SETTINGS = Recovery(
    epochs=4, learning_rate=1e-2, batch_size=16, features=0.5, attention=0.5, seed=3
)
STEPS = 4 * 64 // 16
PAUSE = 0.02  # seconds before every step of the program, so that a kill finds it at work


class Ranged(Staged):
    """Clips its inputs to ranges that recalibration finds, by a scale that may be learned."""

    limit: Tensor
    unsaved: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__(4)
        self.register_buffer("limit", torch.tensor(3.0))
        self.register_buffer("unsaved", torch.tensor(1.0), persistent=False)
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp(-self.limit, self.limit) * self.scale * self.unsaved)

    def recalibrate(self) -> None:
        """Depends on the weights, on random numbers and on what it was before."""
        self.limit.fill_(float(self.conv.weight.detach().abs().max()) + float(torch.rand(())))
        self.unsaved.mul_(0.9)

    def set_scales(self, scales: Scales) -> None:
        """A learned scale is a parameter while the model trains."""
        if scales == "learned":
            self._become(nn.Parameter(self.scale.clone()))

    def freeze_scales(self) -> None:
        """A buffer again."""
        self._become(self.scale.detach())

    def _become(self, scale: Tensor) -> None:
        del self.scale
        if isinstance(scale, nn.Parameter):
            self.scale = scale
        else:
            self.register_buffer("scale", scale)


def run(
    checkpoint: Path | None,
    settings: Recovery = SETTINGS,
    *,
    on_step: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = lambda _: None,
    stamp: str = "a policy's id",
    seed: int = 3,
    epochs: int | None = None,
) -> tuple[nn.Module, tuple[float, ...]]:
    """One recovery from its start, or from where the checkpoint says."""
    data, model = Images(), made(Ranged, seed=seed)
    assert isinstance(model, Ranged)
    conditions = Conditions(
        on_step=on_step,
        recalibrate=model.recalibrate,
        set_scales=model.set_scales,
        freeze_scales=model.freeze_scales,
        epochs=epochs,
        checkpoint=checkpoint,
        stamp=stamp,
        note=note,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        teacher = Teacher(made(Staged, 8), data)
        record = recover(model, data, settings, teacher, conditions)
    return model, record.losses


if __name__ == "__main__":
    print("ready", flush=True)
    run(Path(sys.argv[1]), on_step=lambda: time.sleep(PAUSE))
