"""ONNX Runtime on this CPU: sessions with pinned threads, and calls on them.

The one place that imports onnxruntime. Threads of a session spin while they wait, ONNX Runtime's
default, which is fastest where a model has its cores to itself; with one thread there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from compressors.errors import UserError
from evaluation.measuring.operators import Operator, Price
from evaluation.measuring.runner import Array

if TYPE_CHECKING:
    from torch import Tensor

VERSION: str = ort.__version__
TYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class OrtOpener:
    """Opens ONNX files with so many threads."""

    threads: int

    def __call__(self, path: Path) -> Session:
        """The session of a file."""
        return open_file(path, self.threads)

    def operators(self, path: Path, batch: int) -> tuple[Operator, ...]:
        """What the runtime runs of a file."""
        from evaluation.targets.ort_cpu.operators import taken

        return taken(path, self.threads, batch).operators()

    def prices(self, path: Path, batch: int, keys: Sequence[str], beside: Path) -> dict[str, Price]:
        """What some of its operators take, each alone beside a yardstick of this runtime's own."""
        from evaluation.targets.ort_cpu.operators import prices, taken

        del beside
        return prices(taken(path, self.threads, batch), keys, self.threads)


class Session:
    """A model that runs."""

    def __init__(
        self,
        model: bytes | Path,
        threads: int,
        *,
        optimise: bool = True,
        dump: Path | None = None,
    ) -> None:
        options = session_options(threads, optimise=optimise)
        if dump is not None:
            options.optimized_model_filepath = str(dump)
        source = str(model) if isinstance(model, Path) else model
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(source, options, providers=providers)
        self._inputs = self._session.get_inputs()

    def predict(self, *args: Tensor) -> Tensor:
        """The first output, as a torch tensor."""
        import torch  # here, as files are opened in a process that has no need of it

        return torch.from_numpy(self._session.run(None, self._feed(args))[0])

    def run(self, *args: Array) -> Array:
        """The first output, as an array."""
        feed = {value.name: arg for value, arg in zip(self._inputs, args, strict=True)}
        result: Array = self._session.run(None, feed)[0]
        return result

    def outputs(self, *args: Tensor) -> Mapping[str, Any]:
        """Every output by name, as arrays."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, self._feed(args)), strict=True))

    def call(self, batch: int) -> Callable[[], object]:
        """One run on made-up inputs of a batch size, as a Python caller makes it."""
        feed = self.made_up(batch)
        session = self._session
        return lambda: session.run(None, feed)

    def made_up(self, batch: int) -> dict[str, Array]:
        """Inputs of a batch size that mean nothing."""
        chance = np.random.default_rng(0)
        feed = {}
        for value in self._inputs:
            shape = [batch, *(d if isinstance(d, int) else 1 for d in value.shape[1:])]
            kind = _type(value.type)
            real = kind is np.float32  # an integer may be an index, of which only 0 surely exists
            feed[value.name] = (
                chance.standard_normal(shape, kind) if real else np.zeros(shape, kind)
            )
        return feed

    def _feed(self, args: tuple[Tensor, ...]) -> dict[str, Any]:
        pairs = zip(self._inputs, args, strict=True)
        return {value.name: _array(value.type, arg) for value, arg in pairs}


def session_options(threads: int, *, optimise: bool = True) -> ort.SessionOptions:
    """So many threads, one operator after another, and only errors told."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def open_file(
    path: Path, threads: int, dump: Path | None = None, *, optimise: bool = True
) -> Session:
    """The session of a file; a file that is none is the user's to mend."""
    if not path.is_file():
        raise UserError(f"There is no model file '{path}'; build it first, or name another.")
    return open_model(path, path, threads, dump, optimise=optimise)


def open_model(
    model: bytes | Path,
    path: Path,
    threads: int,
    dump: Path | None = None,
    *,
    optimise: bool = True,
) -> Session:
    """The session of a model that came from a file; what cannot run is the user's to mend."""
    try:
        return Session(model, threads, optimise=optimise, dump=dump)
    except Exception as error:  # onnxruntime's errors share no base class
        if type(error).__module__.startswith("onnxruntime"):
            reason = str(error).splitlines()[0]
            raise UserError(f"ONNX Runtime cannot load '{path}': {reason}") from error
        raise


def _array(name: str, arg: Tensor) -> Any:
    """The tensor as an array; a model of half or double precision is a float one here."""
    values = arg.detach()
    return (values.float() if name == "tensor(float)" else values).cpu().numpy()


def _type(name: str) -> Any:
    if name not in TYPES:
        raise UserError(f"Inputs of type {name} cannot be timed; valid: {', '.join(TYPES)}.")
    return TYPES[name]
