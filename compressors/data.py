"""What a compressor may ask of the user's data.

A task (see `evaluation.task`) satisfies `Data`, and may offer models besides its own; compressors
know no more of a task than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

Split = Literal["calibration", "train", "validation", "test"]


@dataclass(frozen=True)
class Batch:
    """Inputs, targets, and the samples' ids where the inputs of an id never change.

    With ids, whatever depends on a sample alone (a teacher's outputs) is computed once and kept.
    A task that augments its data leaves them out.
    """

    inputs: Tensor | tuple[Tensor, ...]
    targets: Tensor
    ids: Tensor | None = None

    @property
    def args(self) -> tuple[Tensor, ...]:
        """The inputs as positional arguments of the model."""
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)


class Data(Protocol):
    """Batches of a split, and the loss that trains on them."""

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        """Batches in fixed order; with a seed, shuffled by it (a different seed an epoch)."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The training loss, a scalar."""
        ...


@runtime_checkable
class OffersTeachers(Protocol):
    """Data that has models to distil from, besides the uncompressed one, which is 'original'.

    Only the model that a policy names is looked up, so that a mapping may make them when asked.
    """

    def teachers(self) -> Mapping[str, nn.Module]:
        """Trained models by name; each takes the task's inputs and gives outputs of its shape."""
        ...


@runtime_checkable
class OffersStudents(Protocol):
    """Data that has other architectures to start from than the task's model."""

    def students(self) -> Mapping[str, nn.Module]:
        """Models by name, trained or not; each takes the task's inputs."""
        ...
