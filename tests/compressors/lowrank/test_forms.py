"""Every form: exact at full rank, and elsewhere as good as NumPy says that a rank can be."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.policies.steps import LowRank
from tests.compressors.lowrank.single import drawn, factorised, filled

CONVS = {
    "plain": nn.Conv2d(4, 6, 3),
    "stride": nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(1, 2), bias=False),
    "dilation": nn.Conv2d(6, 4, 3, dilation=(2, 1), padding=(2, 0)),
    "same": nn.Conv2d(3, 5, (4, 3), padding="same", dilation=(1, 2)),
    "valid": nn.Conv2d(3, 5, (1, 3), padding="valid"),
    "reflect": nn.Conv2d(3, 5, 3, padding=(2, 1), padding_mode="reflect", stride=2),
    "many outputs": nn.Conv2d(1, 16, 3),
}
TRANSPOSED = {
    "shrinking": nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
    "growing": nn.ConvTranspose2d(3, 5, (4, 2), stride=(2, 1), dilation=(1, 2), bias=False),
}
LAYERS: list[tuple[str, nn.Module, Tensor]] = [
    ("channel", nn.Linear(7, 5), drawn(3, 4, 7)),
    ("channel", nn.Linear(4, 9, bias=False), drawn(3, 4)),
    ("channel", nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), drawn(2, 4, 11)),
    ("channel", nn.Embedding(11, 4, padding_idx=2), torch.arange(11).reshape(1, 11)),
    *(("channel", layer, drawn(2, layer.in_channels, 5, 6)) for layer in TRANSPOSED.values()),
    *(
        (form, layer, drawn(2, layer.in_channels, 9, 10))
        for form in ("channel", "spatial", "tucker")
        for layer in CONVS.values()
    ),
]


@pytest.mark.parametrize(("form", "layer", "x"), LAYERS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_form_is_the_layer_at_full_rank(
    form: str, layer: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    layer = filled(deepcopy(layer).to(dtype))
    x = x.to(dtype) if x.is_floating_point() else x
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    parts = factorised(layer, LowRank(1.0, form=form))
    with torch.no_grad():
        torch.testing.assert_close(parts(x), layer(x), atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(parts.weight, layer.weight, atol=tolerance, rtol=tolerance)
    assert {p.dtype for p in parts.parameters()} == {dtype}
    assert (parts.bias is None) == (getattr(layer, "bias", None) is None)


@pytest.mark.parametrize(("form", "layer", "x"), LAYERS[:6], ids=lambda value: str(value)[:60])
def test_at_any_rank_the_parts_compute_their_product(
    form: str, layer: nn.Module, x: Tensor
) -> None:
    _computes_its_product(form, layer, x)


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker"])
@pytest.mark.parametrize("name", CONVS)
def test_at_any_rank_convolutions_compute_their_product(form: str, name: str) -> None:
    layer = CONVS[name]
    _computes_its_product(form, layer, drawn(2, layer.in_channels, 9, 10))


def _computes_its_product(form: str, layer: nn.Module, x: Tensor) -> None:
    whole = filled(deepcopy(layer))
    parts = factorised(whole, LowRank(rank=2, form=form))
    with torch.no_grad():
        assert (parts.weight - whole.weight).norm() > 0.05 * whole.weight.norm()
        whole.weight.copy_(parts.weight)
        torch.testing.assert_close(parts(x), whole(x), atol=1e-5, rtol=1e-5)


def matrix_of(form: str, layer: nn.Module) -> np.ndarray:
    """The matrix whose rank the form lowers, written down anew."""
    w = layer.weight.detach().double().numpy()
    if form == "spatial":
        return np.stack(
            [w[o, :, :, j].ravel() for o in range(w.shape[0]) for j in range(w.shape[3])]
        )
    if isinstance(layer, nn.ConvTranspose2d) and layer.in_channels < layer.out_channels:
        return np.stack([w[:, o].ravel() for o in range(w.shape[1])])
    return w.reshape(len(w), -1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("form", "layer"),
    [(form, layer) for form, layer, _ in LAYERS if form != "tucker"],
    ids=lambda value: str(value)[:60],
)
def test_the_error_is_the_tail_of_numpys_singular_values(
    form: str, layer: nn.Module, rank: int
) -> None:
    layer = filled(deepcopy(layer).double())
    values = np.linalg.svd(matrix_of(form, layer), compute_uv=False)
    parts = factorised(layer, LowRank(rank=rank, form=form))
    error = (parts.weight - layer.weight).square().sum().item()
    np.testing.assert_allclose(error, (values[rank:] ** 2).sum(), rtol=1e-9, atol=1e-20)


def hosvd(w: np.ndarray, ranks: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    unfolded = w.reshape(len(w), -1), np.moveaxis(w, 1, 0).reshape(w.shape[1], -1)
    inputs, outputs = ranks
    return (
        np.linalg.svd(unfolded[0])[0][:, :outputs],
        np.linalg.svd(unfolded[1])[0][:, :inputs],
    )


def tucker_error(w: np.ndarray, outputs: np.ndarray, inputs: np.ndarray) -> float:
    near = np.einsum("ockl,op,qp,ci,di->qdkl", w, outputs, outputs, inputs, inputs, optimize=True)
    return float(((w - near) ** 2).sum())


@pytest.mark.parametrize("ranks", [(1, 1), (3, 3), (5, 5)])
def test_tucker_is_between_numpys_hosvd_and_the_least_that_is_possible(
    ranks: tuple[int, int],
) -> None:
    layer = filled(nn.Conv2d(8, 10, 3).double())
    w = layer.weight.detach().numpy()
    parts = factorised(layer, LowRank(rank=ranks[0], form="tucker"))
    assert [part.weight.shape[0] for part in parts] == [*ranks, 10]
    ours = (parts.weight - layer.weight).square().sum().item()
    first = tucker_error(w, *hosvd(w, ranks))
    outputs, inputs = hosvd(w, ranks)
    for _ in range(200):  # alternating to the end, in another order
        seen = np.einsum("ockl,op->pckl", w, outputs)
        inputs = np.linalg.svd(np.moveaxis(seen, 1, 0).reshape(8, -1))[0][:, : ranks[0]]
        seen = np.einsum("ockl,ci->oikl", w, inputs)
        outputs = np.linalg.svd(seen.reshape(10, -1))[0][:, : ranks[1]]
    best = tucker_error(w, outputs, inputs)
    tails = [
        (np.linalg.svd(m, compute_uv=False)[rank:] ** 2).sum()
        for m, rank in (
            (w.reshape(10, -1), ranks[1]),
            (np.moveaxis(w, 1, 0).reshape(8, -1), ranks[0]),
        )
    ]
    assert max(tails) <= ours <= first <= sum(tails)
    assert ours <= best * 1.03


def test_a_padding_row_of_zeros_stays_zero() -> None:
    for shape in ((40, 8), (5, 8)):  # more rows than columns, and fewer
        table = filled(nn.Embedding(*shape, padding_idx=3))
        with torch.no_grad():
            table.weight[3] = 0
        parts = factorised(table, LowRank(0.5))
        assert parts[0].padding_idx == 3
        assert not parts(torch.tensor([3])).any()
        parts(torch.arange(5)).sum().backward()
        assert not parts[0].weight.grad[3].any()


def test_a_transposed_convolution_may_be_asked_for_a_size() -> None:
    for layer in TRANSPOSED.values():
        layer = filled(deepcopy(layer))
        x = drawn(2, layer.in_channels, 5, 6)
        size = [
            s + 1 if t > 1 else s for s, t in zip(layer(x).shape[2:], layer.stride, strict=True)
        ]
        if layer.output_padding != (0, 0):
            size = [s - 2 for s in size]
        parts = factorised(layer, LowRank(1.0))
        torch.testing.assert_close(parts(x, size), layer(x, size), atol=2e-6, rtol=2e-6)


def test_components_are_as_large_in_one_part_as_in_the_next() -> None:
    first, second = factorised(filled(nn.Conv2d(6, 8, 3)), LowRank(0.5))
    torch.testing.assert_close(
        first.weight.flatten(1).norm(dim=1), second.weight.norm(dim=0).flatten()
    )


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker"])
def test_no_random_number_is_drawn_and_zeros_stay_finite(form: str) -> None:
    layer = nn.Conv2d(4, 6, 3)
    nn.init.zeros_(layer.weight)
    before = torch.get_rng_state()
    parts = factorised(layer, LowRank(energy=0.9, form=form))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(bool(p.isfinite().all()) for p in parts.parameters())
    torch.testing.assert_close(parts(drawn(1, 4, 5, 5)), layer(drawn(1, 4, 5, 5)))


def test_bfloat16_is_computed_in_double_and_given_back() -> None:
    layer = filled(nn.Conv2d(6, 8, 3))
    half = deepcopy(layer).to(torch.bfloat16)
    parts = factorised(half, LowRank(0.5, form="spatial"))
    assert {p.dtype for p in parts.parameters()} == {torch.bfloat16}
    plain = factorised(layer, LowRank(0.5, form="spatial"))
    torch.testing.assert_close(parts.weight.float(), plain.weight, atol=0.02, rtol=0.05)
