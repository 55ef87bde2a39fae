"""ExecuTorch's Python runtime: methods of .pte files, and calls on them.

The one place that imports the runtime. Its thread pool is the process's own, one for all files,
and cannot be changed while a file is open. A file takes so many samples in a call as it was made
for; more are run in pieces.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from compressors.errors import UserError
from evaluation.measuring.runner import Array

FIXED_BATCH = "fixed_batch"  # a method of files that take so many samples and no other number
TYPES = {6: torch.float32, 4: torch.int64, 3: torch.int32, 11: torch.bool}  # ExecuTorch's numbers
_open: WeakSet[Session] = WeakSet()


def runtime_version() -> str:
    """The installed version; a missing one is the user's to mend."""
    try:
        return version("executorch")
    except PackageNotFoundError as error:
        raise UserError(
            "The target executorch needs ExecuTorch: pip install 'paredown[executorch]'."
        ) from error


@dataclass(frozen=True)
class ExecutorchOpener:
    """Opens .pte files with so many threads."""

    threads: int

    def __call__(self, path: Path) -> Session:
        """The session of a file."""
        if not path.is_file():
            raise UserError(f"There is no model file '{path}'; build it first, or name another.")
        return Session(path, self.threads)


class Session:
    """A model that runs."""

    def __init__(self, path: Path, threads: int) -> None:
        with _hushed():
            _pin(threads)
            try:
                self._open(path)
            except (RuntimeError, ValueError, KeyError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"ExecuTorch cannot load '{path}': {reason}.") from error
        _open.add(self)

    def _open(self, path: Path) -> None:
        bindings = _bindings()
        self._data = path.read_bytes()  # which the program reads from as long as it lives
        self._program = bindings._load_program_from_buffer(
            self._data, program_verification=bindings.Verification.InternalConsistency
        )
        self._method = self._program.load_method("forward")
        about = self._method.method_meta()
        self._inputs = [about.input_tensor_meta(n) for n in range(about.num_inputs())]
        self._largest = int(self._inputs[0].sizes()[0])
        count = self._program.num_methods()
        names = {self._program.get_method_name(number) for number in range(count)}
        self._fixed = FIXED_BATCH in names

    def run(self, *args: Array) -> Array:
        """The first output, as an array."""
        tensors = [torch.from_numpy(np.ascontiguousarray(arg)) for arg in args]
        pieces = zip(*(torch.split(tensor, self._largest) for tensor in tensors), strict=True)
        return torch.cat([self._piece(piece) for piece in pieces]).numpy()

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs of a batch size, as a Python caller makes it."""
        if batch > self._largest or (self._fixed and batch != self._largest):
            raise UserError(
                f"The file takes {self._largest} samples in a call, so that {batch} cannot be"
                " timed; build it with that target.batch."
            )
        chance = torch.Generator().manual_seed(0)
        inputs = [_made_up(about, batch, chance) for about in self._inputs]
        return lambda: self._method(inputs)  # a method does not keep its program alive

    def _piece(self, piece: tuple[Tensor, ...]) -> Tensor:
        count = len(piece[0])
        if self._fixed and count < self._largest:
            missing = self._largest - count
            piece = tuple(torch.cat([t, t[-1:].expand(missing, *t.shape[1:])]) for t in piece)
        result: Tensor = self._method(piece)[0]
        return result[:count]


def _made_up(about: Any, batch: int, chance: torch.Generator) -> Tensor:
    kind = TYPES.get(int(about.dtype()))
    if kind is None:
        raise UserError(f"Inputs of type {about.dtype()} cannot be timed; valid: floats, integers.")
    shape = (batch, *about.sizes()[1:])
    if kind is not torch.float32:  # it may be an index, of which only 0 surely exists
        return torch.zeros(shape, dtype=kind)
    return torch.randn(shape, generator=chance)


def _bindings() -> Any:
    """The runtime itself; the modules that wrap it import ExecuTorch's exporters, for seconds."""
    from executorch.extension.pybindings import _C  # type: ignore[import-untyped]

    return _C


def _pin(threads: int) -> None:
    if _bindings()._threadpool_get_thread_count() == threads:
        return
    if len(_open):
        raise UserError(
            f"target.threads cannot be {threads} in a process where files are open with another"
            " number; valid: the same number."
        )
    _bindings()._unsafe_reset_threadpool(threads)


@contextmanager
def _hushed() -> Iterator[None]:
    """The runtime tells of processors and of broken files past Python's streams."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
