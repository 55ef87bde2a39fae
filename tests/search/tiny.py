"""A task and a target small enough to search in a second: real training, real files."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compressors.data import Batch, Data, Split
from compressors.record import CompressedModel
from evaluation.measurement import ERROR, LATENCY, Metric, Value
from evaluation.target import FLOAT, INT8, Artifact, Capability, Timing
from evaluation.task import Predict

SPLITS: dict[Split, tuple[int, int]] = {
    "train": (0, 1000),
    "calibration": (1000, 1064),
    "validation": (1064, 1364),
    "test": (1364, 1797),
}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(inputs + self.second(torch.relu(self.first(inputs))))


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.block = Residual(width)
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.block(torch.relu(self.stem(inputs))))  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _clouds() -> tuple[Tensor, Tensor]:
    """Ten overlapping clouds of points; no data library to import, which takes a second."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (1797,), generator=generator)
    centres = torch.randn(10, 64, generator=generator) * 0.4
    return centres[targets] + torch.randn(1797, 64, generator=generator), targets


def _taken(path: Path) -> bool:
    """Whether it was this process that removed the file."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _passed(gate: Path) -> bool:
    return not gate.is_dir() or any(_taken(ticket) for ticket in gate.iterdir())


class TinyTask:
    """`die_at` names a file: the process that removes it is killed at once.

    `gate` names a folder: while it is there, each scoring waits until it has removed a file of it,
    so that a test says how many trials end while another runs.
    """

    def __init__(
        self,
        width: int = 16,
        die_at: str | None = None,
        fail: bool = False,
        gate: str | None = None,
    ) -> None:
        self.name = "tiny"
        self.metric: Metric = ERROR
        self._width = width
        self._die_at = die_at
        self._fail = fail
        self._gate = gate

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Net(self._width)
            optimizer = torch.optim.Adam(model.parameters(), 1e-2)
            for epoch in range(3):
                for batch in self.batches("train", seed=epoch):
                    optimizer.zero_grad()
                    self.loss(model(*batch.args), batch.targets).backward()
                    optimizer.step()
        return model.eval()

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        inputs, targets = _clouds()
        ids = torch.arange(*SPLITS[split])
        if seed is not None:
            ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
        for chosen in ids.split(batch_size or 64):
            yield Batch(inputs[chosen], targets[chosen], chosen)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def quality(self, predict: Predict, split: Split, fraction: float = 1.0) -> Value:
        if self._die_at and _taken(Path(self._die_at)):
            os.kill(os.getpid(), 9)
        if self._fail:
            raise RuntimeError("this task cannot be evaluated")
        while self._gate and not _passed(Path(self._gate)):
            time.sleep(0.02)
        wrong = total = 0
        with torch.no_grad():
            for batch in self.batches(split):
                wrong += int((predict(*batch.args).argmax(1) != batch.targets).sum())
                total += len(batch.targets)
        share = wrong / total
        return Value(ERROR, share, (share * (1 - share) / total) ** 0.5)


class TinyTarget:
    """Stores weights; its latency is a count of them, so that the same policy costs the same."""

    def __init__(
        self, multiple: int = 4, least_parameters: int = 0, full: str | None = None
    ) -> None:
        self._full = full  # while there is such a file, the disk is full
        self.name = "store"
        self.suffix = ".safetensors"
        self.tolerance = 0.02
        self.basis = "computed"
        self._least = least_parameters
        precisions = {"linear": (FLOAT, INT8), "conv2d": (FLOAT, INT8)}
        self.capability = Capability(precisions, multiple)  # type: ignore[arg-type]

    def lower(self, compressed: CompressedModel, data: Data, path: Path) -> Artifact:
        if compressed.record.parameters < self._least:
            raise RuntimeError(f"no kernel for {compressed.record.parameters} parameters\nat all")
        if self._full and Path(self._full).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        tensors = {k: v.contiguous() for k, v in compressed.module.state_dict().items()}
        partial = path.with_suffix(f".{os.getpid()}")
        save_file(tensors, partial)
        os.replace(partial, path)
        return Artifact(path, path.stat().st_size, str(compressed.record.parameters))

    def load(self, path: Path) -> Predict:
        raise NotImplementedError("a search never loads what it stored")

    def latency(self, artifact: Artifact, reference: Artifact) -> Value:
        return Value(LATENCY, int(artifact.signature) / 1e6, 0.0)

    def compare(self, reference: Path, candidates: Sequence[Path]) -> list[Timing]:
        raise NotImplementedError("a search never compares files")
