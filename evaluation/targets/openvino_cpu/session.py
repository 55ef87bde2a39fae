"""OpenVINO on this CPU: files compiled for so many threads, and calls on them.

Imports openvino and no torch. A file is compiled when it is first used, once for any batch size
where it answers, once for the batch asked where it is timed; opening alone only reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]

from compressors.errors import UserError
from evaluation.artifact_parts import parts
from evaluation.measuring.operators import Operator, Price
from evaluation.measuring.runner import Array


@dataclass(frozen=True)
class OpenVinoOpener:
    """Opens .xml files, the weights in a .bin beside each."""

    threads: int
    precision_hint: str

    def __call__(self, path: Path) -> Session:
        """The file, read."""
        for part in parts(path):
            if not part.is_file():
                raise UserError(
                    f"There is no model file '{part}'; build it first, or name another."
                )
        return Session(path, self.settings())

    def operators(self, path: Path, batch: int) -> tuple[Operator, ...]:
        """What the runtime runs of a file."""
        from evaluation.targets.openvino_cpu.operators import operators

        return operators(self(path).compiled(batch))

    def prices(self, path: Path, batch: int, keys: Sequence[str], beside: Path) -> dict[str, Price]:
        """What some of its operators take."""
        from evaluation.targets.openvino_cpu.operators import prices

        session = self(path)
        reference = partial(self(beside).call, batch)
        return prices(partial(session.compiled, batch), session.made_up(batch), keys, reference)

    def settings(self) -> dict[str, Any]:
        """One stream that answers as soon as it can; nothing is rounded that the file does not.

        Its threads are held to no cores: every process would take the same ones.
        """
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": self.precision_hint,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else inputs of packed weights are rounded
        }


class Session:
    """A model that was read."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        self._model = self._checked(lambda: _core().read_model(str(path)))
        self._flexible: Any = None

    def run(self, *args: Array) -> Array:
        """The first output, for any number of samples."""
        if self._flexible is None:
            self._flexible = self.compiled().create_infer_request()
        result: Array = np.array(self._flexible.infer(list(args), share_inputs=True)[0])
        return result

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs of a batch size, as a Python caller makes it."""
        inputs = self.made_up(batch)
        request = self.compiled(batch).create_infer_request()
        return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)

    def made_up(self, batch: int) -> list[Array]:
        """Inputs of a batch size that mean nothing."""
        chance = np.random.default_rng(0)
        return [_made_up(chance, value, batch) for value in self._model.inputs]

    def compiled(self, batch: int | None = None, **settings: Any) -> ov.CompiledModel:
        """The model for one batch size, or for any; with more settings than the usual."""
        model = self._model.clone()
        if batch is not None:
            model.reshape({number: _shape(v, batch) for number, v in enumerate(model.inputs)})
        chosen = {**self._settings, **settings}
        return self._checked(lambda: _core().compile_model(model, "CPU", chosen))

    def _checked(self, load: Callable[[], Any]) -> Any:
        """What is loaded; a file that OpenVINO refuses is the user's to mend."""
        try:
            return load()
        except RuntimeError as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = said[-1] if said else "no reason given"
            raise UserError(f"OpenVINO cannot load '{self._path}': {reason}") from error


def precisions() -> tuple[str, ...]:
    """The precision hints that this CPU follows."""
    able = set(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return ("f32", *(h for h, name in (("bf16", "BF16"), ("f16", "FP16")) if name in able))


@cache
def _core() -> ov.Core:
    return ov.Core()


def _shape(value: Any, batch: int) -> list[int]:
    """An input's shape at a batch size."""
    sizes = [d.get_length() if d.is_static else 1 for d in value.partial_shape]
    return [batch, *sizes[1:]]


def _made_up(chance: np.random.Generator, value: Any, batch: int) -> Array:
    kind = value.element_type.to_dtype()
    if kind == np.float32:
        return chance.standard_normal(_shape(value, batch), np.float32)
    return np.zeros(_shape(value, batch), kind)  # an index, of which only 0 surely exists
