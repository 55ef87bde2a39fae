"""Weighed by inputs: a smaller error of the output, on inputs that were not calibrated with."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.errors import UserError
from compressors.policies.steps import LowRank
from tests.compressors.lowrank.single import drawn, factorised, filled, in_model

CALIBRATION, UNSEEN = slice(0, 256), slice(1400, None)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16


@pytest.fixture(scope="module")
def network(digits: Tensor) -> nn.Sequential:
    """A small network that has learnt its digits."""
    targets = torch.tensor(load_digits().target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(384, 48),
            nn.ReLU(),
            nn.Linear(48, 10),
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(4):
            for part in torch.randperm(1200).split(64):
                optimizer.zero_grad()
                F.cross_entropy(network(digits[part]), targets[part]).backward()
                optimizer.step()
    network.eval().requires_grad_(False)
    right = network(digits[UNSEEN]).argmax(1) == targets[UNSEEN]
    assert right.float().mean() > 0.8
    return network


def output_error(network: nn.Sequential, name: str, step: LowRank, digits: Tensor) -> float:
    """Of the layer's output on unseen images, as a share of its size."""
    thin = deepcopy(network)
    done = in_model(thin, {name: step}, digits[CALIBRATION])
    assert list(done.parts) == [name]
    x = network[: int(name)](digits[UNSEEN])
    whole = network[int(name)](x)
    return float((thin[int(name)](x) - whole).square().sum() / whole.square().sum())


@pytest.mark.parametrize(
    ("name", "form", "ratio"),
    [
        ("7", "channel", 0.5),
        ("2", "channel", 0.5),
        ("4", "channel", 0.5),
        ("2", "spatial", 0.4),
        ("4", "spatial", 0.25),
    ],
)
def test_aware_errs_less_than_plain_on_real_activations(
    network: nn.Sequential, digits: Tensor, name: str, form: str, ratio: float
) -> None:
    plain = output_error(network, name, LowRank(ratio, form=form), digits)
    aware = output_error(network, name, LowRank(ratio, form=form, aware=True), digits)
    print(f"{form} {network[int(name)]} at {ratio}: {plain:.5f} plain, {aware:.5f} aware")
    assert aware < plain / 3


def test_aware_is_the_least_error_that_a_rank_can_have() -> None:
    x = drawn(300, 9) @ drawn(9, 9, seed=1)
    for layer in (filled(nn.Linear(9, 6)), filled(nn.Linear(9, 14))):
        w = layer.weight.detach().double().numpy()
        outputs = x.double().numpy() @ w.T
        least = (np.linalg.svd(outputs, compute_uv=False)[3:] ** 2).sum()
        parts = factorised(layer, LowRank(rank=3, aware=True), x)
        error = ((x @ (parts.weight - layer.weight).T) ** 2).sum().item()
        assert least * (1 - 1e-3) <= error <= least * 1.005


def test_a_spatial_second_part_is_numpys_least_squares_after_the_first() -> None:
    layer = filled(nn.Conv2d(3, 4, 3, bias=False))
    x = F.conv2d(drawn(40, 3, 8, 8), torch.ones(3, 1, 3, 3), groups=3)
    parts = factorised(layer, LowRank(rank=3, form="spatial", aware=True), x)
    seen = F.unfold(parts[0](x).detach(), (1, 3)).transpose(1, 2).reshape(-1, 9).double().numpy()
    target = layer(x).detach().movedim(1, -1).reshape(-1, 4).double().numpy()
    best = np.linalg.lstsq(seen, target, rcond=None)[0]
    least = ((target - seen @ best) ** 2).sum()
    error = (parts(x) - layer(x)).square().sum().item()
    assert least * (1 - 1e-3) <= error <= least * 1.005


SINGULAR = {
    "constant": torch.ones(8, 4, 6, 6),
    "silent": torch.zeros(8, 4, 6, 6),
    "one channel": torch.cat([drawn(8, 1, 6, 6), torch.zeros(8, 3, 6, 6)], 1),
    "few": drawn(1, 4, 3, 3),
    "huge": drawn(8, 4, 6, 6) * 1e12,
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("form", ["channel", "spatial"])
def test_inputs_that_say_little_do_no_harm(name: str, form: str) -> None:
    layer = filled(nn.Conv2d(4, 6, 3))
    exact = factorised(layer, LowRank(1.0, form=form, aware=True), SINGULAR[name])
    torch.testing.assert_close(exact.weight, layer.weight, atol=1e-5, rtol=1e-5)
    thin = factorised(layer, LowRank(rank=2, form=form, aware=True), SINGULAR[name])
    assert bool(thin.weight.isfinite().all())
    assert thin.weight.norm() < 10 * layer.weight.norm()


def test_values_that_are_not_finite_are_told() -> None:
    layer = filled(nn.Linear(4, 6))
    with pytest.raises(UserError, match="layer '0' meets values that are not finite"):
        factorised(layer, LowRank(0.5, aware=True), torch.full((2, 4), torch.inf))
    layer.weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match="weight of layer '0' has values that are not finite"):
        factorised(layer, LowRank(0.5))


def test_a_conv1d_errs_as_little_as_a_rank_can() -> None:
    layer = filled(nn.Conv1d(6, 5, 3, padding=1, bias=False))
    x = drawn(40, 2, 20).repeat(1, 3, 1) + 0.1 * drawn(40, 6, 20, seed=1)
    outputs = layer(x).detach().movedim(1, -1).reshape(-1, 5).double().numpy()
    least = (np.linalg.svd(outputs, compute_uv=False)[2:] ** 2).sum()
    error = (factorised(layer, LowRank(rank=2, aware=True), x)(x) - layer(x)).square().sum().item()
    assert least * (1 - 1e-3) <= error <= least * 1.005


def test_gram_matrices_of_all_layers_are_taken_in_one_pass(
    network: nn.Sequential, digits: Tensor
) -> None:
    runs: list[int] = []
    cache = ContentCache()
    thin = deepcopy(network)
    counter = nn.Sequential(thin, nn.Identity())
    nn.Module.register_forward_pre_hook(thin, lambda *_: runs.append(1))
    layers = {f"0.{name}": LowRank(0.25, aware=True) for name in ("2", "4", "7")}
    in_model(counter, layers, digits[CALIBRATION], cache)
    assert len(runs) == 2  # and one that tells the model from others of equal weights
