"""Torch as the runtime: opens a torch.export program and runs it, on the CPU or on a GPU.

`torch.export.load` reads a graph of torch's own operators from JSON and weights from raw bytes;
no code of the file's is run, unless a weight in it is marked as a pickle. Files that have one are
refused here, before they are loaded. What depends on no input is computed when the file is opened.
With `compile` what is timed is the program under torch.compile, whose results are kept in the cache
folder by content; answers come from operators that run one by one, which is the same computation
but for the order of sums, for to compile takes longer than to answer a split.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from compressors.errors import UserError
from evaluation.measuring.runner import Array
from evaluation.targets.torch_device import constants
from evaluation.targets.torch_device.uncollected import uncollected

VERSION = torch.__version__
KEPT = 2  # programs as they were read: the reference's and the latest


@dataclass(frozen=True)
class TorchOpener:
    """Opens programs on a device, with so many threads; compiled ones are kept in a folder."""

    device: str
    threads: int
    compile: bool = False
    kept: str | None = None

    def __call__(self, path: Path) -> TorchProgram:
        """The program of a file; from here on this process has so many threads."""
        torch.set_num_threads(self.threads)
        kept = self.kept if self.compile else None
        return TorchProgram(_as_read(path, _stamp(path)), self.device, kept=kept)


class TorchProgram:
    """A program that runs; compiled if a folder to keep the result in is given."""

    def __init__(self, exported: ExportedProgram, device: str, *, kept: str | None = None) -> None:
        self._inputs = _inputs(exported)
        self.module = exported.module(check_guards=False)
        self.module.to(device)
        self._device = torch.device(device)
        with torch.no_grad():
            constants.fold(self.module)
        self._timed: Callable[..., Any] = self.module
        if kept is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept
            self._timed = torch.compile(self.module)

    def run(self, *args: Array) -> Array:
        """The first output, as an array."""
        tensors = [torch.from_numpy(np.ascontiguousarray(arg)) for arg in args]
        answer: Array = self._first(*(x.to(self._device) for x in tensors)).cpu().numpy()
        return answer

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs, whose result a GPU has finished."""
        chance = torch.Generator().manual_seed(0)
        args = [_made_up(x, batch, chance).to(self._device) for x in self._inputs]
        run, wait = self._timed, self._device.type == "cuda"

        def once() -> object:
            with torch.inference_mode():
                answer = run(*args)
                if wait:
                    torch.cuda.synchronize()
            return answer

        return once

    def _first(self, *args: Tensor) -> Tensor:
        with torch.inference_mode():
            answer: Tensor = tree_leaves(self.module(*args))[0]
        return answer


@lru_cache(maxsize=KEPT)
def _as_read(path: Path, stamp: object) -> ExportedProgram:
    """A file is read once to be answered and timed; to read it takes torch seconds."""
    del stamp
    return read(path)


def _stamp(path: Path) -> object:
    """What changes with a file's content."""
    if not path.is_file():
        return None
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def read(path: Path) -> ExportedProgram:
    """The program in a file; what is none is the user's to mend."""
    if not path.is_file():
        raise UserError(f"There is no model file '{path}'; build it first, or name another.")
    content = path.read_bytes()
    try:
        pickled = _pickled(content)
        with uncollected():
            exported = None if pickled else torch.export.load(io.BytesIO(content))
    except Exception as error:  # whatever a broken archive makes torch raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"torch.export cannot load '{path}': {reason}") from error
    if exported is None:
        raise UserError(f"torch.export cannot load '{path}' safely: '{pickled[0]}' is a pickle.")
    return exported


def _pickled(content: bytes) -> list[str]:
    """The weights and constants of a file that would be unpickled."""
    found = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                told = json.loads(archive.read(name)).get("config", {})
                found += [str(key) for key, facts in told.items() if facts.get("use_pickle", True)]
    return found


def _inputs(exported: ExportedProgram) -> list[Tensor]:
    names = exported.graph_signature.user_inputs
    nodes = {node.name: node for node in exported.graph.nodes}
    return [nodes[str(name)].meta["val"] for name in names]


def _made_up(like: Tensor, batch: int, chance: torch.Generator) -> Tensor:
    """Random numbers; an integer may be an index, of which only 0 surely exists."""
    shape = (batch, *(int(size) for size in like.shape[1:]))
    if like.dtype.is_floating_point:
        return torch.randn(shape, generator=chance, dtype=like.dtype)
    return torch.zeros(shape, dtype=like.dtype)
