"""The LiteRT interpreter on this CPU: XNNPACK's kernels, a fixed number of threads.

The one place that opens files with ai_edge_litert. A file is resized to the number of samples
that it is given, and stays so until another number comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

from compressors.errors import UserError
from evaluation.measuring.runner import Array


@dataclass(frozen=True)
class LiteRtOpener:
    """Opens .tflite files with so many threads."""

    threads: int

    def __call__(self, path: Path) -> LiteRtRunner:
        """The interpreter of a file."""
        if not path.is_file():
            raise UserError(f"There is no model file '{path}'; build it first, or name another.")
        try:
            interpreter = Interpreter(model_content=path.read_bytes(), num_threads=self.threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"LiteRT cannot load '{path}': {reason}") from error
        return LiteRtRunner(interpreter)


class LiteRtRunner:
    """A model that runs."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self._inputs = sorted(interpreter.get_input_details(), key=lambda facts: facts["index"])
        self._output = interpreter.get_output_details()[0]["index"]

    def run(self, *args: Array) -> Array:
        """The first output for these inputs."""
        self._resize([arg.shape for arg in args])
        for facts, arg in zip(self._inputs, args, strict=True):
            self.interpreter.set_tensor(facts["index"], arg.astype(facts["dtype"], copy=False))
        self.interpreter.invoke()
        answer: Array = self.interpreter.get_tensor(self._output)
        return answer

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs of a batch size: set, invoke, get."""
        chance = np.random.default_rng(0)
        args = [_made_up(chance, (batch, *f["shape"][1:]), f["dtype"]) for f in self._inputs]
        self._resize([arg.shape for arg in args])
        indices = [facts["index"] for facts in self._inputs]
        interpreter, output = self.interpreter, self._output

        def once() -> object:
            for index, arg in zip(indices, args, strict=True):
                interpreter.set_tensor(index, arg)
            interpreter.invoke()
            return interpreter.get_tensor(output)

        return once

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        details = self.interpreter.get_input_details()
        now = {facts["index"]: tuple(facts["shape"]) for facts in details}
        wanted = {f["index"]: s for f, s in zip(self._inputs, shapes, strict=True)}
        if now == wanted:
            return
        for index, shape in wanted.items():
            self.interpreter.resize_tensor_input(index, shape)
        self.interpreter.allocate_tensors()


def _made_up(chance: np.random.Generator, shape: tuple[int, ...], kind: Any) -> Array:
    if kind is np.float32:
        return chance.standard_normal(shape, np.float32)
    return np.zeros(shape, kind)  # an integer may be an index, of which only 0 surely exists
