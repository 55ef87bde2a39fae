"""Recovery's state after an epoch, on disk: a run that was cut off goes on to the same last bit.

A file is written whole or not at all, loaded without running any code, and as good as none where
it is damaged or belongs to another start. Knows torch's generators; data that draws from others
may differ from the uninterrupted run.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressors.modules import device_of
from compressors.recovery.mean import Mean

State = dict[str, Any]


@dataclass
class Progress:
    """How far a training has come."""

    epochs: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Learner:
    """All that changes while a model trains, besides the generators and how far it is."""

    model: nn.Module
    extra: nn.Module  # what is learned with the model and thrown away
    optimizer: torch.optim.Optimizer
    mean: Mean | None = None  # of the weights over the last epoch, of one that ends on its way


class Checkpoint:
    """One file that holds the latest state of one training, which `stamp` tells from any other.

    A state that cannot be written costs nothing but the way back; `note` hears of it once.
    """

    def __init__(self, path: Path, stamp: str, note: Callable[[str], None]) -> None:
        self._path = path
        self._stamp = stamp
        self._note = note
        self._failed = False

    def save(self, learner: Learner, progress: Progress) -> None:
        """Write the state in place of the one before."""
        try:
            _write(self._path, {"stamp": self._stamp, **_state(learner, progress)})
        except OSError as error:
            if not self._failed:
                self._note(
                    f"A recovery's state could not be written ({error.strerror}): cut off, it"
                    " would start again."
                )
            self._failed = True

    def resume(self, learner: Learner, epochs: int) -> Progress | None:
        """Bring back what was written, if anything of this training was, and no more epochs."""
        state = _read(self._path)
        if state is None or state.get("stamp") != self._stamp:
            return None
        if state["progress"]["epochs"] > epochs:
            return None
        ended = state["progress"]["epochs"] == epochs
        if ended and learner.mean is not None and not state.get("mean"):
            return None
        if _shapes(state["model"]) != _shapes(learner.model.state_dict()):
            return None
        return _restore(state, learner)


def remove(path: Path) -> None:
    """Delete a checkpoint and what interrupted writes left beside it."""
    for file in (path, *path.parent.glob(f"{path.name}.*.part")):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _state(learner: Learner, progress: Progress) -> State:
    device = device_of(learner.model)
    return {
        "model": learner.model.state_dict(),
        "buffers": dict(_unsaved_buffers(learner.model)),
        "extra": learner.extra.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "mean": learner.mean.values if learner.mean else [],
        "generator": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "progress": dict(vars(progress)),
    }


def _restore(state: State, learner: Learner) -> Progress:
    learner.model.load_state_dict(state["model"])
    for name, buffer in _unsaved_buffers(learner.model):
        buffer.copy_(state["buffers"][name])
    learner.extra.load_state_dict(state["extra"])
    learner.optimizer.load_state_dict(state["optimizer"])
    if learner.mean is not None:
        learner.mean.values = state.get("mean", [])
    torch.set_rng_state(state["generator"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device_of(learner.model))
    return Progress(**state["progress"])


def _unsaved_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The buffers that a state dict leaves out."""
    saved = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name not in saved]


def _shapes(state: State) -> dict[str, object]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}


def _write(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _read(path: Path) -> State | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch looks at no check sums
                return None
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file fails in whatever way
        return None
    return state if isinstance(state, dict) else None
