"""Models that share, repeat or pool what others do not: the file still answers as simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressors.policies.policy import Policy
from compressors.stack import apply
from evaluation.targets.ort_cpu.session import open_file
from evaluation.targets.ort_cpu.target import OrtCpu
from tests.evaluation.test_integer_kernels import (
    INTEGER,
    Given,
    departure,
    lowered,
    optimised,
    seeded,
)


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


class RowsAndTokens(nn.Module):
    """One layer that reads rows as well as tokens, which exports write as two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.a(x)
        scores: Tensor = self.a(torch.relu(tokens).mean(1))
        return scores


class Averaged(nn.Module):
    """A mean over the last two axes of three."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.a(x)
        return hidden.mean((-2, -1)).unsqueeze(1)


class Volume(nn.Module):
    """A mean over two axes of five."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.conv(x).mean((2, 3)).mean(2))
        return scores


class Convolutions(nn.Sequential):
    """A convolution's result is the answer."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))


class PooledUp(nn.Sequential):
    """An average pool of windows that reach past the edge."""

    def __init__(self) -> None:
        pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        before = (nn.Conv2d(1, 16, 2), nn.ReLU(), pool)
        super().__init__(*before, nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(8 * 64, 5))


class PaddedAndPooledUp(nn.Sequential):
    """An average pool of windows that reach past the padding too."""

    def __init__(self) -> None:
        pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        before = (nn.Conv2d(1, 16, 3), nn.ReLU(), pool)
        super().__init__(*before, nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(8 * 64, 5))


class SamePadded(nn.Sequential):
    """Convolutions that pad what their kernels take, evenly and unevenly."""

    def __init__(self) -> None:
        first = nn.Conv2d(1, 16, 3, padding="same", dilation=2)
        second = nn.Conv2d(16, 8, (4, 3), padding="same")
        super().__init__(first, nn.ReLU(), second, nn.Flatten(), nn.Linear(8 * 64, 5))


SHAPES: list[tuple[type[nn.Module], tuple[int, ...]]] = [
    (Repeated, (16,)),
    (Repeated, (5, 16)),
    (Tied, (16,)),
    (Tied, (5, 16)),
    (RowsAndTokens, (6, 16)),
    (Averaged, (6, 16)),
    (Volume, (1, 6, 6, 6)),
    (SamePadded, (1, 8, 8)),
    (Convolutions, (1, 8, 8)),
    (PooledUp, (1, 16, 16)),
    (PaddedAndPooledUp, (1, 16, 16)),
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


def test_attention_is_exported_as_its_layers_compute_it(tmp_path: Path) -> None:
    model = seeded(nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)))
    given = Given(model, (5, 16))
    plain = apply(given.model(), Policy(), given)
    before = torch.backends.mha.get_fastpath_enabled()
    OrtCpu(cache_dir=str(tmp_path)).lower(plain, given, tmp_path / "float.onnx")
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert departure(plain, tmp_path / "float.onnx", given.inputs) < 1e-4


class Looked(nn.Module):
    """A table of two entries."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.table(x).mean(1))
        return scores


def test_indices_made_up_for_timing_are_in_the_table(tmp_path: Path) -> None:
    given = Given(seeded(Looked), (3,))
    given.inputs = (given.inputs > 0).long()
    path = tmp_path / "m.onnx"
    compressed = lowered(given, path)
    assert departure(compressed, path, given.inputs) < 0.04
    open_file(path, 1).call(32)()


def test_a_layer_that_exports_write_in_two_ways_is_integers_in_both(tmp_path: Path) -> None:
    given = Given(seeded(RowsAndTokens), (6, 16))
    lowered(given, tmp_path / "m.onnx")
    ops = optimised(tmp_path / "m.onnx", tmp_path)
    assert sum(ops[op] for op in INTEGER) == 2
