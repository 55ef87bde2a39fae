"""Statistics against plain sums over what hooks saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics, mean_loss
from compressors.errors import UserError
from tests.compressors.tiny import Images, Residual, seeded

DATA = Images()
NAMES = ["conv1", "layer2.0.conv1", "fc"]


def statistics(model: nn.Module, cache: ContentCache | None = None) -> Statistics:
    return Statistics(model, Calibration(DATA), cache or ContentCache())


def seen(model: nn.Module, name: str) -> Tensor:
    inputs: list[Tensor] = []
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        model(DATA.all("calibration")[0])
    handle.remove()
    return inputs[0]


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_of_what_the_layer_saw(name: str) -> None:
    model = seeded(Residual)
    found = statistics(model).inputs(NAMES)[name]
    rows = seen(model, name).movedim(1, -1)
    rows = rows.reshape(-1, rows.shape[-1]).double()
    expected = {
        "low": rows.amin(0),
        "high": rows.amax(0),
        "mean": rows.mean(0),
        "magnitude": rows.abs().mean(0),
        "square": (rows**2).mean(0),
        "zeros": (rows == 0).double().mean(0),
    }
    for key, value in expected.items():
        torch.testing.assert_close(getattr(found, key).double(), value, rtol=1e-5, atol=1e-6)


LAYERS = {
    "conv": nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
    "reflect": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "same": nn.Conv2d(4, 6, (3, 2), padding="same"),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4, padding=1),
    "conv1d": nn.Conv1d(4, 6, 3, stride=2, padding=2),
    "linear": nn.Linear(4, 6),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_gram_matrix_gives_the_energy_of_the_outputs(kind: str) -> None:
    """For every weight row w, the mean of (w . x)^2 over the layer's outputs is w G w^T."""
    layer = LAYERS[kind]
    with torch.no_grad():
        layer.bias.zero_()  # type: ignore[union-attr]
    shape = {"conv1d": (3, 4, 9), "linear": (3, 5, 4)}.get(kind, (3, 4, 9, 9))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gram = Statistics(layer, Calibration(Once(x)), ContentCache()).grams([""])[""]
    weight = layer.weight.detach().flatten(1)  # type: ignore[union-attr, operator]
    rows = weight.view(len(gram), -1, gram.shape[-1])
    energy = torch.einsum("grd,gde,gre->gr", rows, gram, rows).flatten()
    with torch.no_grad():
        outputs = layer(x) if kind == "linear" else layer(x).movedim(1, -1)
    expected = outputs.reshape(-1, outputs.shape[-1]).square().mean(0)
    torch.testing.assert_close(energy, expected, rtol=1e-4, atol=1e-5)


class Once:
    """One batch of inputs for a layer that is a model by itself."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def batches(self, split: str, *, batch_size: int | None = None, seed: int | None = None):
        from compressors.data import Batch

        return [Batch(self._x, torch.zeros(len(self._x)))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()


@pytest.mark.parametrize("name", NAMES)
def test_histograms_count_every_value(name: str) -> None:
    model = seeded(Residual)
    found = statistics(model).histograms(NAMES)[name]
    values = seen(model, name).flatten().double().numpy()
    counts, edges = np.histogram(values, bins=len(found.counts), range=(found.low, found.high))
    assert found.counts.sum() == values.size
    assert (found.low, found.high) == (values.min(), values.max())
    moved = np.abs(np.cumsum(counts) - np.cumsum(found.counts.numpy())).max()
    assert moved <= 3  # values on an edge
    centres = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(found.centres().numpy(), centres, rtol=1e-6, atol=1e-9)


def test_gradients_are_those_of_the_loss() -> None:
    model = seeded(Residual)
    found = statistics(model).gradients(["fc", "conv1"])
    batches = list(DATA.batches("calibration"))
    images, targets = (torch.cat(parts) for parts in zip(*_pairs(batches), strict=True))
    loss = F.cross_entropy(model(images), targets)
    for name, gradients in found.items():
        (expected,) = torch.autograd.grad(
            loss, [model.get_submodule(name).weight], retain_graph=True
        )
        torch.testing.assert_close(gradients.mean, expected, rtol=1e-4, atol=1e-6)
        assert (gradients.rms >= gradients.mean.abs() - 1e-7).all()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert loss.item() == pytest.approx(mean_loss(model, Calibration(DATA)), rel=1e-5)


def _pairs(batches):
    return [(batch.inputs, batch.targets) for batch in batches]


def test_one_digest_one_computation() -> None:
    cache = ContentCache()
    statistics(seeded(Residual), cache).grams(NAMES)
    made = cache.made
    statistics(seeded(Residual), cache).grams(NAMES)
    assert cache.made == made == len(NAMES)
    changed = seeded(Residual)
    with torch.no_grad():
        changed.fc.bias += 1.0
    statistics(changed, cache).grams(NAMES)
    assert cache.made == 2 * made


def test_what_a_part_sees_is_derived_in_steps() -> None:
    model, first, second = seeded(Residual), nn.Linear(16, 5), nn.ReLU()
    found = statistics(model)
    found.derive("fc.1", "fc", first, nn.Linear(5, 3))
    found.derive("fc.1 rectified", "fc.1", second)
    with torch.no_grad():
        hidden = first(seen(model, "fc"))
    torch.testing.assert_close(found.inputs(["fc.1"])["fc.1"].mean, hidden.mean(0))
    gram = found.grams(["fc.1 rectified"])["fc.1 rectified"][0]
    torch.testing.assert_close(gram, hidden.relu().T @ hidden.relu() / len(hidden))


class Spoilt(Images):
    """One value of one sample of the calibration split is no finite number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._data["calibration"][0][3, 1, 2, 2] = value


@pytest.mark.parametrize("what", ["inputs", "grams", "histograms", "gradients"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_with_layer_and_split(what: str, value: float) -> None:
    cache = ContentCache()
    for _ in range(2):  # the first refusal leaves nothing in the cache
        known = Statistics(seeded(Residual), Calibration(Spoilt(value)), cache)
        with pytest.raises(UserError, match=r"calibration split, layer 'layer2\.0\.conv1' meets"):
            getattr(known, what)(["layer2.0.conv1"])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 5, 7)),
        (nn.Conv1d(3, 4, 3), (3, 6)),
        (nn.Linear(3, 4), (3,)),
    ],
    ids=str,
)
def test_a_sample_without_a_batch_counts_as_a_batch_of_one(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    alone, batch = (Statistics(layer, Calibration(Once(y)), ContentCache()) for y in (x, x[None]))
    one, other = alone.inputs([""])[""], batch.inputs([""])[""]
    assert len(one.mean) == 3
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.square, other.square)
    torch.testing.assert_close(alone.grams([""])[""], batch.grams([""])[""])
