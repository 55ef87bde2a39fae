"""TensorRT itself: an engine built from an ONNX file, kept in a folder, and run on the GPU.

The one place that imports tensorrt; torch holds the buffers. The network is strongly typed, so that
integers are where the file's pairs are and nowhere else. An engine is for the GPU, the TensorRT and
the batch sizes that it was built for: its name is a hash of those and of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressors.errors import UserError
from evaluation.cache import make_folder, replacing
from evaluation.measuring.runner import Array

LARGEST_BATCH = 64  # that an engine has room for, unless it is built for more


@dataclass(frozen=True)
class EngineOpener:
    """Builds an engine for calls of one batch size, or finds the one that was built."""

    folder: str
    batch: int

    def __call__(self, path: Path) -> Engine:
        """The engine of a file."""
        if not path.is_file():
            raise UserError(f"There is no model file '{path}'; build it first, or name another.")
        return Engine(self._plan(path))

    def _plan(self, path: Path) -> bytes:
        import tensorrt as trt  # type: ignore[import-not-found]
        import torch

        model = path.read_bytes()
        facts = f"{trt.__version__} {torch.cuda.get_device_name()} {self.batch} "
        name = hashlib.sha256(facts.encode() + model).hexdigest()[:24]
        kept = Path(self.folder) / f"{name}.engine"
        if not kept.is_file():
            make_folder(kept.parent)
            plan = _build(trt, model, path, self.batch)
            with replacing(kept) as temporary:
                temporary.write_bytes(plan)
        return kept.read_bytes()


def _build(trt: Any, model: bytes, path: Path, batch: int) -> bytes:
    """The serialised engine; sparse weights are taken where they obey 2:4."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        reason = str(parser.get_error(0)).splitlines()[0]
        raise UserError(f"TensorRT cannot load '{path}': {reason}")
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        least, usual, most = (
            tuple(size if place else count for place, size in enumerate(value.shape))
            for count in (1, batch, max(batch, LARGEST_BATCH))
        )
        profile.set_shape(value.name, least, usual, most)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"TensorRT cannot load '{path}': it found no kernels for it.")
    return bytes(plan)


class Engine:
    """An engine that runs."""

    def __init__(self, plan: bytes) -> None:
        import tensorrt as trt
        import torch

        self._trt: Any = trt
        self._torch: Any = torch
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine.create_execution_context()
        self._stream = self._torch.cuda.Stream()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        kinds = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if kinds[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if kinds[name] == trt.TensorIOMode.OUTPUT]

    def run(self, *args: Array) -> Array:
        """The first output, of as many calls as the samples take."""
        starts = range(0, len(args[0]), LARGEST_BATCH)
        parts = [tuple(arg[start : start + LARGEST_BATCH] for arg in args) for start in starts]
        return np.concatenate([self._bind(part)().cpu().numpy() for part in parts])

    def call(self, batch: int) -> Callable[[], object]:
        """One run on inputs that lie on the GPU, until its output lies there."""
        chance = np.random.default_rng(0)
        args = []
        for name in self._inputs:
            shape = (batch, *tuple(self._engine.get_tensor_shape(name))[1:])
            kind = self._trt.nptype(self._engine.get_tensor_dtype(name))
            real = np.issubdtype(kind, np.floating)
            args.append(
                chance.standard_normal(shape).astype(kind) if real else np.zeros(shape, kind)
            )
        return self._bind(args)

    def _bind(self, args: Any) -> Callable[[], Any]:
        """Buffers for these inputs, and a run on them."""
        torch = self._torch
        held = {n: torch.from_numpy(a).cuda() for n, a in zip(self._inputs, args, strict=True)}
        for name, tensor in held.items():
            self._context.set_input_shape(name, tuple(tensor.shape))
        for name in self._outputs:
            kind = torch.from_numpy(
                np.zeros(0, self._trt.nptype(self._engine.get_tensor_dtype(name)))
            ).dtype
            shape = tuple(self._context.get_tensor_shape(name))
            held[name] = torch.empty(shape, dtype=kind, device="cuda")

        def run() -> Any:
            for name, tensor in held.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            self._context.execute_async_v3(self._stream.cuda_stream)
            self._stream.synchronize()
            return held[self._outputs[0]]

        return run
