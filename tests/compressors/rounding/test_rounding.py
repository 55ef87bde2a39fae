from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from compressors.errors import UserError
from compressors.quantization.rounding import round_weights
from compressors.quantization.rounding_problem import DAMPING, problem_of
from tests.compressors.rounding import digits

KINDS = ("gptq", "learned")


def grid(matrix: Tensor, bits: int, group: int | None = None) -> tuple[Tensor, Tensor, int, int]:
    """Symmetric, by channel or in groups of columns."""
    highest = 2 ** (bits - 1) - 1
    parts = matrix.double().split(group or matrix.shape[1], dim=1)
    scales = [part.abs().amax(1, keepdim=True).clamp(min=1e-8).expand(part.shape) for part in parts]
    scale = torch.cat(scales, 1) / highest
    return scale, torch.zeros_like(scale), -highest, highest


def nearest(matrix: Tensor, scales: Tensor, zeros: Tensor, lowest: int, highest: int) -> Tensor:
    return ((matrix / scales + zeros).round().clamp(lowest, highest) - zeros) * scales


def output_error(matrix: Tensor, rounded: Tensor, gram: Tensor) -> float:
    missing = (matrix.double() - rounded.double()).view(len(gram), -1, matrix.shape[1])
    return float(((missing @ gram.double()) * missing).sum())


def random_case(
    seed: int, out: int, d: int, samples: int, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """A matrix and the gram of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(groups, samples, d, generator=generator).double()
    vectors = vectors @ torch.randn(groups, d, d, generator=generator).double()
    matrix = torch.randn(out, d, generator=generator)
    return matrix, vectors.mT @ vectors / samples


@pytest.mark.parametrize("name", digits.LAYERS)
@pytest.mark.parametrize(("bits", "group"), [(3, None), (4, None), (3, 8), (4, 8)])
def test_the_output_error_falls_on_inputs_that_were_not_calibrated_with(
    name: str, bits: int, group: int | None
) -> None:
    matrix = digits.layer_of(name).weight.detach().flatten(1)
    seen, unseen = digits.grams(name)
    levels = grid(matrix, bits, group)
    errors = {kind: round_weights(matrix, *levels, seen, kind) for kind in KINDS}
    plain, gptq, learned = (
        output_error(matrix, rounded, unseen)
        for rounded in (nearest(matrix, *levels), errors["gptq"], errors["learned"])
    )
    most = 0.95 if name == "depthwise" else 0.5
    assert gptq < most * plain
    assert learned < 0.97 * gptq


@pytest.mark.parametrize("name", digits.LAYERS)
def test_the_error_is_that_of_the_layers_real_output(name: str) -> None:
    layer, inputs = digits.layer_of(name), digits.inputs_of(name)[: digits.SEEN]
    weight = layer.weight.detach()
    levels = grid(weight.flatten(1), 3)
    seen, _ = digits.grams(name)

    def outputs(matrix: Tensor) -> Tensor:
        shaped = matrix.view(weight.shape).float()
        if name == "dense":
            return F.linear(inputs, shaped)
        return F.conv2d(inputs, shaped, padding=layer.padding, groups=layer.groups)

    plain = nearest(weight.flatten(1), *levels)
    for kind in KINDS:
        rounded = round_weights(weight.flatten(1), *levels, seen, kind)
        ratio = (outputs(rounded) - outputs(weight)).square().sum() / (
            outputs(plain) - outputs(weight)
        ).square().sum()
        expected = output_error(weight.flatten(1), rounded, seen) / output_error(
            weight.flatten(1), plain, seen
        )
        assert ratio == pytest.approx(expected, rel=1e-3)
        assert ratio < 0.95


def published_gptq(
    matrix: np.ndarray, scale: np.ndarray, bounds: tuple[int, int], gram: np.ndarray
):
    """Algorithm 1 of the paper with blocks of one column: by the inverse, corrections ahead."""
    weights, rounded = matrix.copy(), np.zeros_like(matrix)
    upper = np.linalg.cholesky(np.linalg.inv(gram)).T
    for i in range(matrix.shape[1]):
        units = np.clip(np.round(weights[:, i] / scale[:, i]), *bounds)
        rounded[:, i] = scale[:, i] * units
        error = (weights[:, i] - rounded[:, i]) / upper[i, i]
        weights[:, i:] -= np.outer(error, upper[i, i:])
    return rounded


@pytest.mark.parametrize(("out", "d"), [(3, 5), (6, 40), (2, 300)])
def test_gptq_is_the_published_algorithm_in_its_own_column_order(out: int, d: int) -> None:
    matrix, gram = random_case(d, out, d, 4 * d)
    scales, zeros, lowest, highest = grid(matrix, 4)
    order = problem_of(matrix, scales, zeros, lowest, highest, gram).order[0].numpy()
    assert sorted(order) == list(range(d))
    damped = gram[0].numpy() + DAMPING * float(gram[0].diagonal().mean()) * np.eye(d)
    expected = np.zeros((out, d))
    expected[:, order] = published_gptq(
        matrix.double().numpy()[:, order],
        scales.numpy()[:, order],
        (lowest, highest),
        damped[np.ix_(order, order)],
    )
    found = round_weights(matrix.double(), scales, zeros, lowest, highest, gram, "gptq")
    assert np.allclose(found.numpy(), expected, atol=1e-9)


def damped(gram: Tensor) -> Tensor:
    diagonal = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    return gram + DAMPING * diagonal * torch.eye(gram.shape[1])


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_small_cases_come_near_the_best_of_all_roundings(d: int) -> None:
    sums = dict.fromkeys(("best", "nearest", *KINDS), 0.0)
    for seed in range(12):
        matrix, gram = random_case(seed, 2, d, 6)
        scales, zeros, lowest, highest = grid(matrix, 3)
        levels = range(lowest, highest + 1)
        every = torch.tensor(list(itertools.product(levels, repeat=d))).double()
        best = 0.0
        for row, scale in zip(matrix.double(), scales, strict=True):
            missing = row - every * scale
            best += float(((missing @ damped(gram)[0]) * missing).sum(1).min())
        sums["best"] += best
        plain = nearest(matrix, scales, zeros, lowest, highest)
        sums["nearest"] += output_error(matrix, plain, damped(gram))
        for kind in KINDS:
            rounded = round_weights(matrix.double(), scales, zeros, lowest, highest, gram, kind)
            error = output_error(matrix, rounded, damped(gram))
            assert error >= best - 1e-9
            sums[kind] += error
    assert sums["learned"] <= sums["gptq"] <= sums["nearest"] + 1e-9
    assert sums["learned"] <= 1.02 * sums["best"] + 1e-9
    assert sums["gptq"] <= 2 * sums["best"] + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 3),
    rows=st.integers(1, 4),
    d=st.integers(1, 40),
    samples=st.integers(1, 50),
    bits=st.integers(1, 8),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    sparse=st.booleans(),
)
def test_every_weight_is_on_its_grid(
    seed: int,
    groups: int,
    rows: int,
    d: int,
    samples: int,
    bits: int,
    kind: str,
    dtype: torch.dtype,
    sparse: bool,
) -> None:
    matrix, gram = random_case(seed, groups * rows, d, samples, groups)
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(matrix.shape, generator=generator) + 0.05
    zeros = torch.randint(0, 2**bits, matrix.shape, generator=generator).float()
    if sparse:
        matrix[torch.rand(matrix.shape, generator=generator) < 0.5] = 0
    matrix = matrix.to(dtype)
    rounded = round_weights(matrix, scales, zeros, 0, 2**bits - 1, gram, kind)
    assert rounded.dtype == dtype
    assert rounded.shape == matrix.shape
    integers = (rounded.double() / scales + zeros).round()
    assert bool(((integers >= 0) & (integers <= 2**bits - 1)).all())
    assert torch.equal((scales.double() * (integers - zeros)).to(dtype), rounded)
    assert bool((rounded[matrix == 0] == 0).all())
    again = round_weights(matrix, scales, zeros, 0, 2**bits - 1, gram, kind)
    assert torch.equal(rounded, again)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 40), bits=st.integers(2, 6))
def test_no_row_is_worse_off_learned_than_by_gptq(seed: int, d: int, bits: int) -> None:
    matrix, gram = random_case(seed, 5, d, 2 * d)
    levels = grid(matrix, bits)
    gptq, learned = (round_weights(matrix.double(), *levels, gram, kind) for kind in KINDS)
    for row, by_gptq, by_learning in zip(matrix, gptq, learned, strict=True):
        before = output_error(row[None], by_gptq[None], damped(gram))
        after = output_error(row[None], by_learning[None], damped(gram))
        assert after <= before * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_many_bits_leave_the_weights_as_they_are(kind: str) -> None:
    matrix, gram = random_case(0, 8, 20, 100)
    rounded = round_weights(matrix, *grid(matrix, 20), gram, kind)
    assert torch.allclose(rounded, matrix, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_the_grid_stay_there(kind: str) -> None:
    matrix, gram = random_case(1, 8, 20, 100)
    levels = grid(matrix, 3)
    on_grid = nearest(matrix, *levels)
    assert torch.allclose(round_weights(on_grid, *levels, gram, kind), on_grid, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_say_nothing_give_the_nearest_levels(kind: str) -> None:
    matrix, _ = random_case(2, 6, 10, 5)
    levels = grid(matrix, 3)
    plain = nearest(matrix.double(), *levels)
    for gram in (torch.eye(10), torch.zeros(10, 10), torch.diag(torch.rand(10) + 0.1)):
        rounded = round_weights(matrix.double(), *levels, gram[None], kind)
        assert torch.allclose(rounded, plain, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_singular_second_moments_are_no_obstacle(kind: str) -> None:
    matrix, gram = random_case(3, 6, 30, 2)  # two samples in 30 dimensions
    gram[:, 5] = gram[:, :, 5] = 0  # and a dead column
    levels = grid(matrix, 3)
    rounded = round_weights(matrix, *levels, gram.float(), kind)
    assert bool(rounded.isfinite().all())
    plain = nearest(matrix, *levels)
    assert torch.allclose(rounded[:, 5].double(), plain[:, 5], atol=1e-6)
    assert output_error(matrix, rounded, gram) < output_error(matrix, plain, gram)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0.5, 1e3])
def test_moments_that_rounding_made_indefinite_are_damped_more(kind: str, shift: float) -> None:
    matrix, gram = random_case(4, 4, 12, 40)
    mean = float(gram.diagonal(dim1=1, dim2=2).mean())
    rounded = round_weights(matrix, *grid(matrix, 4), gram - shift * mean * torch.eye(12), kind)
    assert bool(rounded.isfinite().all())


def test_rows_meet_only_their_own_groups_inputs() -> None:
    matrix, gram = random_case(5, 6, 8, 30, groups=3)
    levels = grid(matrix, 3)
    for kind in KINDS:
        whole = round_weights(matrix, *levels, gram, kind)
        for group in range(3):
            rows = slice(2 * group, 2 * group + 2)
            scales, zeros, lowest, highest = levels
            part = (matrix[rows], scales[rows], zeros[rows], lowest, highest)
            alone = round_weights(*part, gram[group, None], kind)
            assert torch.equal(whole[rows], alone)


def test_input_that_is_not_finite_is_refused() -> None:
    matrix, gram = random_case(6, 2, 3, 9)
    gram[0, 0, 0] = torch.inf
    with pytest.raises(UserError, match="finite"):
        round_weights(matrix, *grid(matrix, 3), gram, "gptq")


def test_the_callers_tensors_and_generator_are_left_alone() -> None:
    matrix, gram = random_case(7, 4, 9, 30)
    given = (matrix, *grid(matrix, 3)[:2], gram)
    copies, state = [t.clone() for t in given], torch.random.get_rng_state()
    for kind in KINDS:
        round_weights(matrix, *given[1:3], -3, 3, gram, kind)
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())
