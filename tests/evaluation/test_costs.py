"""Parameters, multiply-accumulates and bit operations, against sums by hand."""

from __future__ import annotations

import torch
from torch import nn

from compressors.record import LayerRecord, Record
from evaluation.costs.counting import bit_operations, macs, parameters, skipped_zeros
from evaluation.target import Capability
from evaluation.tasks.resnet import ResNet20
from evaluation.work import Work


def test_a_convolution_and_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), nn.Flatten(), nn.Linear(8 * 16, 10)
    )
    example = (torch.zeros(5, 3, 8, 8),)
    assert macs(model, example) == 8 * 16 * 27 + 128 * 10
    assert parameters(model) == 8 * 27 + 8 + 1280 + 10


def test_groups_divide_the_work() -> None:
    model = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert macs(model, (torch.zeros(1, 8, 4, 4),)) == 8 * 16 * 9


def test_the_other_kinds_by_hand() -> None:
    once = nn.Conv1d(3, 8, 5, stride=2)
    assert macs(once, (torch.zeros(2, 3, 11),)) == 8 * 4 * 3 * 5
    up = nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2)
    assert macs(up, (torch.zeros(1, 6, 5, 7),)) == 6 * 5 * 7 * (4 // 2) * 9
    table = nn.Embedding(11, 8)
    assert macs(table, (torch.zeros(1, 4, dtype=torch.long),)) == 0
    assert parameters(nn.Sequential(once, up, table)) == 8 * 15 + 8 + 6 * 2 * 9 + 4 + 88


def test_a_layer_that_runs_twice_works_twice_and_is_learnt_once() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert macs(model, (torch.zeros(1, 6),)) == 72
    assert parameters(model) == 42


def test_samples_that_a_model_flattens_into_many_rows_count_whole() -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.Flatten(0, 1), nn.Linear(16, 5))
    assert macs(model, (torch.zeros(3, 7, 12),)) == 7 * (12 * 16 + 16 * 5)


def test_resnet20_is_as_large_as_its_paper_says() -> None:
    model = ResNet20()
    assert 270_000 < parameters(model) < 275_000
    assert 40e6 < macs(model, (torch.zeros(1, 1, 32, 32),)) < 41e6
    assert model.training


def test_bit_operations_take_float_for_32_bits() -> None:
    work = (
        Work("a", "linear", "5x2 @1", 10, 10, 2, 5),
        Work("b", "linear", "5x4 @1", 20, 20, 4, 5, 8, 4),
        Work("c", "linear", "5x6 @1", 30, 30, 6, 5, 2, None),
    )
    assert bit_operations(work) == 10 * 32 * 32 + 20 * 8 * 4 + 30 * 2 * 32
    assert bit_operations(work, {"b": 0.5}) == 10 * 32 * 32 + 10 * 8 * 4 + 30 * 2 * 32


def test_zeros_are_left_out_only_where_kernels_leave_them_out() -> None:
    layers = (
        LayerRecord("a", "a", "linear", 8, 8, 64, sparsity=0.5, pattern="2:4"),
        LayerRecord("b", "b", "linear", 8, 8, 64, sparsity=0.7),
    )

    def skipped(capability: Capability) -> dict[str, float]:
        return skipped_zeros(Record("", 0, layers), capability)

    assert skipped(Capability({}, mask_bits=1)) == {"a": 0, "b": 0}
    assert skipped(Capability({}, patterns=("2:4",))) == {"a": 0.5, "b": 0}
    assert skipped(Capability({}, skips_zeros=True)) == {"a": 0.5, "b": 0.7}
