from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from compressors.data import Batch
from evaluation.probing.distances import distances
from evaluation.probing.gauss_newton import damages, direction
from evaluation.probing.weights import Weights


class Net(nn.Module):
    """Two layers, the second run twice."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)
        self.last = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.again(torch.tanh(self.first(x))))
        return self.last(torch.tanh(self.again(y)))  # type: ignore[no-any-return]


def net(outputs: int) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Net(outputs).double().eval()


def batches(count: int, classes: int | None) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.double)
    if classes is None:
        targets = torch.zeros(count, 4, dtype=torch.double)
    else:
        targets = torch.randint(0, classes, (count,), generator=generator)
    return [Batch(inputs[:100], targets[:100]), Batch(inputs[100:], targets[100:])]


def small_changes(model: nn.Module, size: float) -> list[Weights]:
    generator = torch.Generator().manual_seed(2)
    names = [("first", "weight"), ("again", "weight"), ("last", "bias")]
    drawn = []
    for name, kind in names:
        shape = getattr(model.get_submodule(name), kind).shape
        noise = torch.randn(shape, generator=generator, dtype=torch.double)
        drawn.append({(name, kind): size * noise})
    return [*drawn, drawn[0] | drawn[1], {}]


def measured(model: nn.Module, data: list[Batch], change: Weights, *, scores: bool) -> float:
    inputs = torch.cat([batch.args[0] for batch in data])
    with torch.no_grad():
        before = model(inputs).numpy()
        for (name, kind), added in change.items():
            getattr(model.get_submodule(name), kind).add_(added)
        after = model(inputs).numpy()
    return float(distances(after, before, scores=scores).mean())


def test_small_changes_are_as_harmful_as_measured() -> None:
    """Against the outputs themselves; the directions are random, so within their noise."""
    for classes in (3, None):
        data = batches(500, classes)
        model = net(classes or 4)
        inputs = torch.cat([batch.args[0] for batch in data])
        spread = float(model(inputs).detach().var(0, correction=0).mean())
        changes = small_changes(model, 1e-3)
        found = damages(net(classes or 4), data, changes, spread)
        for change, damage in zip(changes, found, strict=True):
            expected = measured(net(classes or 4), data, change, scores=classes is not None)
            assert abs(damage - expected) <= 0.2 * expected


def test_no_change_does_no_damage_and_the_same_change_the_same() -> None:
    data = batches(120, 3)
    changes = small_changes(net(3), 1e-3)
    found = damages(net(3), data, changes, 1.0)
    again = damages(net(3), data, [changes[1], changes[0]], 1.0)
    assert found[-1] == 0
    assert damages(net(3), data, [{}, {}], 1.0).tolist() == [0, 0]
    np.testing.assert_allclose(again, found[[1, 0]], rtol=1e-12)


def test_random_directions_have_the_distances_form_as_their_covariance() -> None:
    count = 200_000
    scores = torch.tensor([2.0, -1.0, 0.5, 0.0], dtype=torch.double)
    generator = torch.Generator().manual_seed(0)
    vectors = direction(scores.expand(count, -1), generator, None) * count**0.5
    likely = scores.softmax(0)
    fisher = likely.diag() - likely[:, None] * likely
    torch.testing.assert_close(vectors.T @ vectors / count, fisher, atol=2e-3, rtol=0)
    plain = direction(scores.expand(count, -1), generator, 9.0) * count**0.5
    form = torch.eye(4, dtype=torch.double) / (4 * 9.0)
    torch.testing.assert_close(plain.T @ plain / count, form, atol=2e-4, rtol=0)


def test_probing_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    damages(net(3), batches(110, 3), small_changes(net(3), 1e-3), 1.0)
    assert torch.equal(before, torch.random.get_rng_state())
