"""Torch itself on this machine's CPU or GPU: float, 8-bit integer Linear and Conv2d, and on a GPU
Linear in 8-bit floats.

The file is a torch.export program with the simulation's own integers in it, written in torch's own
operators, so that it runs wherever torch does, without this package and without torchao. Integer
layers are torchao's int8 tensors (static, dynamic, and dynamic by row), in fewer operators: the
same numbers from the same kernel, `torch._int_mm`, offered where the device computes it exactly.
Convolutions in groups have no integer kernel: their activations are only simulated. Weights alone
(4 and 8 bits, 8-bit float) save bytes, on request, and are float numbers once the file is open:
torch's CPU kernels for them are many times slower than float in float32, and in bfloat16, which
rounds activations, faster for one row alone; torchao's take the float product too. 8-bit float
activations (e4m3 on both sides, `torch._scaled_mm`) are offered on a GPU that has the kernel: on a
CPU it computes the same and takes 4 to 300 times as long as the float product. No 2:4 kernel was
written, for none could be run. Operators run one by one unless `compile` is set: to compile a model
takes torch half a minute. Nothing was run on a GPU: what is special there is the padding of
products, which is tested on a CPU, and the program's move to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, get_args

import torch

from compressors.data import Data
from compressors.errors import UserError
from compressors.record import CompressedModel, LayerKind
from evaluation import cache
from evaluation.lowered import refuse, write
from evaluation.measurement import Value
from evaluation.measuring.files import Files
from evaluation.measuring.limits import TIMEOUT_S
from evaluation.target import (
    FLOAT,
    FP8,
    INT8,
    Artifact,
    Basis,
    Capability,
    Formats,
    Precision,
    Timing,
)
from evaluation.targets.torch_device import probe
from evaluation.targets.torch_device.opener import VERSION, TorchOpener
from evaluation.targets.torch_device.program import program, signature, to_bytes
from evaluation.targets.torch_device.rounding import Product
from evaluation.task import Predict

W8, W4 = Precision(8, None), Precision(4, None)
KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
INTEGER: tuple[LayerKind, ...] = ("linear", "conv2d")
GRANULARITIES = ("channel", "tensor", "group")
FORMATS = {
    W8: Formats(("symmetric", "asymmetric", "e4m3", "e5m2"), GRANULARITIES),
    W4: Formats(("symmetric", "asymmetric"), GRANULARITIES),
}
TABLE = Capability(
    {kind: (FLOAT, INT8) if kind in INTEGER else (FLOAT,) for kind in KINDS},
    channel_multiple=8,
    dynamic=INTEGER,
    rows=("linear",),
    integer_groups=False,
    formats={(kind, p): formats for kind in KINDS for p, formats in FORMATS.items()},
    stored=dict.fromkeys(KINDS, (W8, W4)),
)


GPU_TABLE = replace(TABLE, precisions={**TABLE.precisions, "linear": (FLOAT, INT8, FP8)})


class TorchCpu:
    """Torch on the CPU with so many threads, timed at one batch size."""

    name = "torch_cpu"
    suffix = ".pt2"
    tolerance = 0.02
    basis: Basis = "measured"
    capability = TABLE
    device: ClassVar[str] = "cpu"

    def __init__(
        self,
        threads: int = 1,
        batch: int = 1,
        cache_dir: str | None = None,
        *,
        compile: bool = False,
        storage_only: bool = False,
        timeout_s: float = TIMEOUT_S,
        memory_mb: int | None = None,
    ) -> None:
        for rule, value in (("compile", compile), ("storage_only", storage_only)):
            if not isinstance(value, bool):
                raise UserError(f"target.{rule} cannot be {value!r}; valid: true, false.")
        self._check_device(compile=compile)
        able = _able(type(self).capability, self.device)
        self.capability = replace(able, storage_only=storage_only)
        kept = str(cache.cache_dir(cache_dir) / "inductor")
        self.files = Files.of(
            self.name,
            TorchOpener(self.device, threads, compile, kept),
            runtime=VERSION,
            threads=threads,
            batch=batch,
            cache=cache_dir,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            knobs={"compile": int(compile), "device": self._device_name()},
        )

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        """Write the .pt2 file."""
        del data
        refuse(self, compressed)
        exported = program(compressed, self._product())
        return write(path, to_bytes(exported), signature(exported))

    def load(self, path: Path) -> Predict:
        """A callable that runs the file."""
        return self.files.load(path)

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        """Measured alone beside the reference, once a signature, then remembered."""
        return self.files.latency(artifact, reference)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        """One timing a candidate, in their order, interleaved with the reference."""
        return self.files.compare(reference, candidates)

    def _product(self) -> Product:
        return Product(unsigned=probe.multiplies_integers("cpu", unsigned=True))

    def _check_device(self, *, compile: bool) -> None:
        if compile and not probe.has_compiler():
            raise UserError(
                "target.compile cannot be true: torch.compile finds no C++ compiler here; "
                "valid: false, or install one (g++)."
            )

    def _device_name(self) -> str:
        return torch.backends.cpu.get_cpu_capability()


class TorchCuda(TorchCpu):
    """Torch on a GPU, timed at one batch size."""

    name = "torch_cuda"
    capability = GPU_TABLE
    device: ClassVar[str] = "cuda"

    def _product(self) -> Product:
        return Product(multiple=8)

    def _check_device(self, *, compile: bool) -> None:
        del compile  # for a GPU, torch brings the compiler along
        if not torch.cuda.is_available():
            raise UserError(
                "The target torch_cuda needs a GPU, and torch finds none here; valid: torch_cpu."
            )

    def _device_name(self) -> str:
        return torch.cuda.get_device_name()


def _able(table: Capability, device: str) -> Capability:
    """The table, without the small numbers that the device does not multiply."""
    integers = probe.multiplies_integers(device)
    missing = set() if integers else {INT8}
    if FP8 in table.precisions["linear"] and not probe.multiplies_floats(device):
        missing.add(FP8)
    left = {
        kind: tuple(precision for precision in precisions if precision not in missing)
        for kind, precisions in table.precisions.items()
    }
    found = replace(table, precisions=left)
    return found if integers else replace(found, dynamic=False, rows=())
