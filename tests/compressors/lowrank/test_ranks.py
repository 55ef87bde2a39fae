"""Ranks from a share, an energy or a number."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressors.lowrank.ranks import chosen_rank, rank_with_energy
from compressors.policies.steps import LowRank
from tests.compressors.lowrank.single import factorised, filled

SIZES = st.lists(st.floats(0, 1e3), min_size=1, max_size=20)


@given(SIZES, st.floats(1e-6, 1))
def test_energy_is_the_smallest_rank_that_keeps_the_share(sizes: list[float], share: float) -> None:
    values = np.sort(np.array(sizes))[::-1].copy()
    rank = rank_with_energy(torch.from_numpy(values), share)
    squares = values**2
    assert 1 <= rank <= len(sizes)
    assert squares[:rank].sum() >= share * squares.sum() * (1 - 1e-11)
    assert rank == 1 or squares[: rank - 1].sum() < share * squares.sum()


@given(st.integers(1, 500), st.integers(1, 600))
def test_a_rank_is_capped_by_the_full_one(full: int, rank: int) -> None:
    assert chosen_rank(LowRank(rank=rank), full, lambda: torch.ones(0)) == min(rank, full)


@given(st.floats(0.05, 1))
def test_the_squared_error_is_within_the_energy(share: float) -> None:
    layer = filled(nn.Linear(9, 12))
    parts = factorised(layer, LowRank(energy=share))
    lost = (parts.weight - layer.weight).square().sum() / layer.weight.square().sum()
    assert lost <= 1 - share + 1e-5


def test_tucker_keeps_the_energy_of_each_mode() -> None:
    layer = filled(nn.Conv2d(8, 12, 3).double())
    w = layer.weight.detach().numpy()
    parts = factorised(layer, LowRank(energy=0.8, form="tucker"))
    for matrix, rank in (
        (np.moveaxis(w, 1, 0).reshape(8, -1), len(parts[0].weight)),
        (w.reshape(12, -1), len(parts[1].weight)),
    ):
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        kept = squares.cumsum() / squares.sum()
        assert kept[rank - 1] >= 0.8 > kept[rank - 2]


def test_full_energy_of_a_weight_of_low_rank_is_its_rank() -> None:
    layer = nn.Linear(20, 16, bias=False).double()
    layer.weight.data = torch.ones(16, 1, dtype=torch.float64) @ torch.arange(20.0).double()[None]
    assert factorised(layer, LowRank(energy=1.0))[0].out_features == 1
