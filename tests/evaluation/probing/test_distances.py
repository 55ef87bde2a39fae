from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from evaluation.probing.distances import distances, spread

SEEDS = st.integers(0, 2**31 - 1)


def drawn(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 6, 5)
    first, second = (torch.randn(shape, generator=generator, dtype=torch.double) for _ in range(2))
    return first[0] * scale, second[0] * scale


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.01, 300.0))
def test_the_divergence_is_torchs(seed: int, scale: float) -> None:
    found, reference = drawn(seed, scale)
    expected = F.kl_div(
        F.log_softmax(found, 1), F.log_softmax(reference, 1), reduction="none", log_target=True
    ).sum(1)
    ours = distances(found.numpy(), reference.numpy(), scores=True)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-9, atol=1e-12)
    assert (ours >= 0).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.01, 300.0))
def test_elsewhere_it_is_the_squared_difference_over_the_spread(seed: int, scale: float) -> None:
    found, reference = drawn(seed, scale)
    expected = F.mse_loss(found, reference, reduction="none").mean(1)
    expected = expected / reference.var(0, correction=0).mean()
    ours = distances(found.numpy(), reference.numpy(), scores=False)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-9)


def test_equal_outputs_are_no_distance_apart() -> None:
    outputs = drawn(0, 1e4)[0].numpy()
    assert not distances(outputs, outputs, scores=True).any()
    assert not distances(outputs, outputs, scores=False).any()


def test_stacks_of_outputs_are_compared_with_one_reference() -> None:
    found, reference = (outputs.numpy() for outputs in drawn(1))
    for scores in (True, False):
        stacked = distances(np.stack([found, 2 * found]), reference, scores=scores)
        assert stacked.shape == (2, 6)
        np.testing.assert_allclose(stacked[1], distances(2 * found, reference, scores=scores))


def test_what_does_not_vary_is_measured_in_its_own_size() -> None:
    assert spread(np.full((4, 2), 3.0)) == 9.0
    assert spread(np.zeros((4, 2))) == 1.0
