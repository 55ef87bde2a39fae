"""What a target may be besides: optional protocols, and what follows where it is none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from compressors.record import CompressedModel
from evaluation.measurement import Value
from evaluation.target import Artifact

if TYPE_CHECKING:
    from evaluation.measuring.files import Files


@runtime_checkable
class MayLackTiming(Protocol):
    """A target that is lowered to and checked where its runtime is not, without any timing."""

    untimed: str | None  # why it cannot time files here; None: it can


def why_untimed(target: object) -> str | None:
    """Why a target cannot time files here; None: it can."""
    return target.untimed if isinstance(target, MayLackTiming) else None


@runtime_checkable
class DepartsFurther(Protocol):
    """A target of whose files some depart further than its tolerance, by what is in them."""

    def tolerance_of(self, compressed: CompressedModel) -> float:
        """What the file of a model, and each layer, may depart by at least; 0: as any other."""
        ...


def further(target: object, compressed: CompressedModel) -> float:
    """How far the file of a model may depart, where that is farther than the target's own say."""
    return target.tolerance_of(compressed) if isinstance(target, DepartsFurther) else 0.0


@runtime_checkable
class RunsFiles(Protocol):
    """A target whose files a runtime opens in a process of its own; profiles time them briefly."""

    @property
    def files(self) -> Files:
        """How they are run and timed, and the conditions on which their times depend."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A target that finds something out of a model on the machine before it tells latencies."""

    def prepare(
        self,
        reference: Artifact,
        others: Callable[[], Iterable[Artifact]],
        tell: Callable[[str], None],
    ) -> None:
        """Do so now for a model, if nobody has.

        `others` lowers the model under policies that a search might ask for, each as it is taken;
        `tell` is given what takes long, in a line, as it begins.
        """
        ...


@runtime_checkable
class PricesEnergy(Protocol):
    """A target with an energy model of its own, in place of the one for any machine."""

    def energy(self, artifact: Artifact) -> Value:
        """The modelled energy of one sample."""
        ...
