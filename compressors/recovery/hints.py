"""Which modules of a student and its teacher are compared while the one learns from the other.

Outputs compare where they agree in all but width: the channels of maps, the last dimension of
tokens. Of a module that runs several times the last output counts, of several outputs the first.
Knows nothing of how outputs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from compressors.errors import PolicyError, choices
from compressors.modules import device_of, eval_mode, moved

CONVOLUTIONS = (nn.modules.conv._ConvNd,)
SEQUENCES = (nn.Conv1d, nn.ConvTranspose1d)


@dataclass(frozen=True)
class Hint:
    """A module of the student, one of the teacher, and the dimension that is their width."""

    student: str
    teacher: str
    width: int


def default_hints(
    student: nn.Module,
    teacher: nn.Module,
    blocks: Sequence[str],
    example: tuple[Tensor, ...],
    *,
    positions: bool = False,
) -> tuple[Hint, ...]:
    """The named blocks that compare; where none does, the outermost modules that do.

    With `positions`, outputs must have a dimension besides samples and width.
    """
    return _Pairing(student, teacher, example, positions).default(blocks)


def chosen_hints(
    student: nn.Module,
    teacher: nn.Module,
    names: Sequence[str],
    example: tuple[Tensor, ...],
    *,
    positions: bool = False,
) -> tuple[Hint, ...]:
    """The hints that a policy names: module paths, or 'student=teacher'."""
    pairing = _Pairing(student, teacher, example, positions)
    return tuple(pairing.chosen(name) for name in names)


@contextmanager
def watching(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named modules, as they appear while the model runs inside the block."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        found = _first_tensor(output)
        if found is not None:
            seen[name] = found

    with _hooked(model, list(dict.fromkeys(names)), keep):
        yield seen


class _Pairing:
    """Two models, and the shapes of all that their modules give on the same example."""

    def __init__(
        self, student: nn.Module, teacher: nn.Module, example: tuple[Tensor, ...], positions: bool
    ) -> None:
        self._student = student
        self._teacher = teacher
        self._positions = positions
        own, other = _outputs(student, example), _outputs(teacher, example)
        self._answers = own.answers  # which distillation compares already
        self._shapes = own.shapes
        self._teachers_shapes = other.shapes

    def default(self, blocks: Sequence[str]) -> tuple[Hint, ...]:
        hints = self._comparable(blocks) or self._comparable(list(self._outermost(self._student)))
        if hints:
            return hints
        raise PolicyError(
            "recovery.features and recovery.attention compare modules whose outputs agree in all"
            f" but width, and the model has none in common with its teacher; valid:"
            f" recovery.hints such as student=teacher of {self._words()}, or 0."
        )

    def chosen(self, name: str) -> Hint:
        own, _, other = name.partition("=")
        other = other or own
        for path, model, shapes in (
            (own, "model", self._shapes),
            (other, "teacher", self._teachers_shapes),
        ):
            if path not in shapes:
                raise PolicyError(
                    f"recovery.hints names '{name}', but no module '{path}' of the {model} gives"
                    f" a tensor; valid: {self._valid()}."
                )
        hint = self._hint(own, other)
        if hint is None:
            shape, teachers = tuple(self._shapes[own]), tuple(self._teachers_shapes[other])
            rule = "agree in all but width" + (" and have positions" if self._positions else "")
            raise PolicyError(
                f"recovery.hints names '{name}', but outputs of shape {shape} and {teachers} do"
                f" not {rule}; valid: {self._valid()}."
            )
        return hint

    def _comparable(self, names: Sequence[str]) -> tuple[Hint, ...]:
        hints = (self._hint(name, name) for name in names)
        return tuple(hint for hint in hints if hint is not None)

    def _outermost(self, module: nn.Module, path: str = "") -> Iterator[str]:
        """The outermost modules that compare, without the whole model."""
        for key, child in module.named_children():
            name = f"{path}.{key}" if path else key
            if any(True for _ in child.parameters()):
                if self._hint(name, name) is not None and name not in self._answers:
                    yield name
                else:
                    yield from self._outermost(child, name)

    def _hint(self, own: str, other: str) -> Hint | None:
        if own not in self._shapes or other not in self._teachers_shapes:
            return None
        one, two = self._shapes[own], self._teachers_shapes[other]
        modules = [self._student.get_submodule(own), self._teacher.get_submodule(other)]
        width = width_dimension(len(one), modules)
        if len(one) != len(two) or len(one) < (3 if self._positions else 2):
            return None
        agree = all(a == b for i, (a, b) in enumerate(zip(one, two, strict=True)) if i != width)
        return Hint(own, other, width) if agree else None

    def _valid(self) -> str:
        names = [hint.student for hint in self._comparable(list(self._shapes))]
        return choices(names) if names else f"student=teacher of {self._words()}"

    def _words(self) -> str:
        return f"({choices(self._shapes, 6)}) and ({choices(self._teachers_shapes, 6)})"


def width_dimension(dimensions: int, modules: Sequence[nn.Module]) -> int:
    """Which dimension of a module's output counts channels: the second of maps, else the last."""
    inside = [child for module in modules for child in module.modules()]
    if dimensions == 3:
        return 1 if any(isinstance(child, SEQUENCES) for child in inside) else 2
    convolved = any(isinstance(child, CONVOLUTIONS) for child in inside)
    if dimensions > 3 and not convolved and any(isinstance(c, nn.Linear) for c in inside):
        return dimensions - 1
    return 1


@dataclass(frozen=True)
class _Outputs:
    """What a model's modules give: shapes by path, and who gives the model's own output."""

    shapes: Mapping[str, torch.Size]
    answers: frozenset[str]


@torch.no_grad()
def _outputs(model: nn.Module, example: tuple[Tensor, ...]) -> _Outputs:
    shapes: dict[str, torch.Size] = {}
    given: dict[str, ReferenceType[Tensor]] = {}

    def keep(name: str, output: object) -> None:
        found = _first_tensor(output)
        if found is not None:
            shapes[name], given[name] = found.shape, ref(found)

    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    with eval_mode(model), _hooked(model, names, keep):
        answer = _first_tensor(model(*moved(example, device_of(model))))
        answers = frozenset(name for name, tensor in given.items() if tensor() is answer)
    return _Outputs(shapes, answers)


@contextmanager
def _hooked(
    model: nn.Module, names: Sequence[str], keep: Callable[[str, object], None]
) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        return lambda *call: keep(name, call[-1])

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_tensor(output: object) -> Tensor | None:
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) and output.is_floating_point() else None
