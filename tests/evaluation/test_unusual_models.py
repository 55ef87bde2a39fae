"""Models that share, repeat or pool what others do not: the file still answers as simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressors.policy import Policy
from compressors.stack import apply
from evaluation.targets.ort_cpu import OrtCpu
from tests.evaluation.test_integer_kernels import Given, departure, lowered, seeded


class Repeated(nn.Module):
    """One layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)
        self.b = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.b(self.a(torch.relu(self.a(x))))
        return scores


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)
        self.b = nn.Linear(16, 16)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.b(torch.relu(self.a(x)))
        return scores


SHAPES: list[tuple[type[nn.Module], tuple[int, ...]]] = [
    (Repeated, (16,)),
    (Repeated, (5, 16)),
    (Tied, (16,)),
    (Tied, (5, 16)),
]


@pytest.mark.parametrize(("build", "shape"), SHAPES)
def test_the_file_answers_as_the_simulation(
    build: type[nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    given = Given(seeded(build), shape)
    plain = apply(given.model(), Policy(), given)
    OrtCpu(cache_dir=str(tmp_path)).lower(plain, given, tmp_path / "float.onnx")
    assert departure(plain, tmp_path / "float.onnx", given.inputs) < 1e-4
    compressed = lowered(given, tmp_path / "int8.onnx")
    assert departure(compressed, tmp_path / "int8.onnx", given.inputs) < 0.04
