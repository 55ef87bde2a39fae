"""A simulated accelerator: its times and its energy are computed from a design, not measured.

It is for asking what a machine would gain by few bits, before there is one. The file is the one
that `storage` writes, with a note of what the model computes; opened, it runs in float on this
machine, and only its answers mean anything then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from compressors.data import Data
from compressors.errors import UserError
from compressors.policies.steps import ACTIVATION_BITS, FUNCTION_BITS, WEIGHT_BITS
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from evaluation.lowered import refuse
from evaluation.measurement import ENERGY, LATENCY, Value
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import FLOAT, Artifact, Basis, Capability, Precision, Timing
from evaluation.targets.npu_sim.design import Design
from evaluation.targets.npu_sim.note import note_of, signature, work_in
from evaluation.targets.npu_sim.simulation import simulate
from evaluation.targets.storage import file
from evaluation.targets.storage.storage import Storage
from evaluation.task import Predict
from evaluation.work import Work, work_of

_INTEGERS = tuple(
    Precision(weights, activations)
    for weights in reversed(WEIGHT_BITS)
    for activations in reversed(ACTIVATION_BITS)
)
_STORED = tuple(Precision(weights, None) for weights in (None, *WEIGHT_BITS))
_MULTIPLIED = ("symmetric", "asymmetric", "ternary", "binary")  # codes that are integers


class NpuSim:
    """A simulated design that runs one batch at a time; threads are those of `load`."""

    name = "npu_sim"
    suffix = ".safetensors"
    tolerance = Storage.tolerance
    layer_tolerance = Storage.layer_tolerance
    basis: Basis = "computed"
    capability = Capability(
        {
            "linear": (FLOAT, *_INTEGERS, *_STORED[1:]),
            "conv1d": (FLOAT, *_INTEGERS, *_STORED[1:]),
            "conv2d": (FLOAT, *_INTEGERS, *_STORED[1:]),
            "conv_transpose2d": (FLOAT, *_INTEGERS, *_STORED[1:]),
            "embedding": _STORED,
        },
        functions={name: FUNCTION_BITS[name] for name in _MULTIPLIED},
        mask_bits=Storage.capability.mask_bits,
    )

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        design: Design | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        self._storage = Storage(threads, batch, cache_dir, timeout_s=timeout_s, memory_mb=memory_mb)
        self.design = design or Design()
        self.batch = batch
        self.capability = replace(type(self).capability, skips_zeros=self.design.skip_zeros)

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the packed file, with the note."""
        refuse(self, compressed, "has no units for")
        work = work_of(compressed)
        made = self._storage.lower(compressed, data, path, note_of(work))
        speed = signature(work, with_zeros=self.design.skip_zeros)
        return replace(made, signature=speed, work=work)

    def load(self, path: Path) -> Predict:
        """A callable that runs the unpacked model on this machine, in float."""
        return self._storage.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """The computed time of one call."""
        del reference
        return Value(LATENCY, self._milliseconds(artifact.work), 0.0)

    def energy(self, artifact: Artifact) -> Value:
        """The computed energy of one sample."""
        prices = simulate(artifact.work, self.design, self.batch)
        return Value(ENERGY, sum(each.picojoules for each in prices) * 1e-6 / self.batch)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """The computed times of files, by their notes."""
        base = self._milliseconds(_work_in(reference))
        times = [self._milliseconds(_work_in(path)) for path in candidates]
        return [Timing(time, 0.0, base / time, 0.0) for time in times]

    def layer_tensors(
        self, path: Path, args: tuple[Tensor, ...], described: Mapping[str, LayerQuantization]
    ) -> Any:
        """What the layers of a file, unpacked, read and write."""
        return self._storage.layer_tensors(path, args, described)

    def _milliseconds(self, work: Sequence[Work]) -> float:
        cycles = sum(each.cycles for each in simulate(work, self.design, self.batch))
        return cycles / (self.design.clock_mhz * 1e3)


def _work_in(path: Path) -> tuple[Work, ...]:
    note = file.note_of(path)
    if note is None:
        raise UserError(f"'{path}' has no note of its work; valid: a file that npu_sim wrote.")
    return work_in(note)
