"""Fits remembered by content, and ranges that come from calibration alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.steps import Quantize
from compressors.quantization.layers import describe, insert
from tests.compressors.quantization.helpers import inserted
from tests.compressors.tiny import Images, Residual, seeded

NAMES = ["conv1", "layer1.0.conv1", "layer1.1.conv2", "layer2.0.shortcut.0", "fc"]
ENTRIES = [
    Quantize(8, 8),
    Quantize(4, 8, "mse", "asymmetric", "group", 8),
    Quantize(3, 4, "entropy", "symmetric", rounding="gptq"),
    Quantize(4, None, function="kmeans", granularity="tensor"),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.function}-{entry.rounding}")
def test_a_second_model_that_differs_in_one_layer_has_one_layer_fitted(entry: Quantize) -> None:
    model, cache = seeded(Residual), ContentCache()
    found = Statistics(deepcopy(model), Calibration(Images()), cache)
    first, second, third = (deepcopy(model) for _ in range(3))
    settings = dict.fromkeys(NAMES, entry)
    insert(first, settings, found, cache)
    made = cache.made
    insert(second, settings, found, cache)
    assert cache.made == made
    images = Images().all("validation")[0]
    assert torch.equal(first(images), second(images))
    with torch.no_grad():
        third.get_submodule("layer1.0.conv1").weight.mul_(1.1)
    insert(third, settings, found, cache)
    fits = 2 if entry.rounding == "gptq" else 1  # the grid, and the weight on it
    assert cache.made == made + fits
    insert(deepcopy(model), settings | {"fc": replace(entry, weights=2)}, found, cache)
    assert cache.made == made + 2 * fits


def test_what_is_remembered_is_not_written_into() -> None:
    model, cache = seeded(Residual), ContentCache()
    found = Statistics(deepcopy(model), Calibration(Images()), cache)
    settings = dict.fromkeys(NAMES, Quantize(4, 8, "mse"))
    first, second = deepcopy(model), deepcopy(model)
    insert(first, settings, found, cache)
    expected = first(Images().all("validation")[0])
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.zero_()
    insert(second, settings, found, cache)
    assert torch.equal(second(Images().all("validation")[0]), expected)


def test_only_settings_that_matter_make_a_new_fit() -> None:
    model, cache = seeded(Residual), ContentCache()
    found = Statistics(deepcopy(model), Calibration(Images()), cache)
    for same in (
        Quantize(2, None, function="ternary"),
        Quantize(2, None, "mse", "ternary"),
        Quantize(2, 8, function="ternary", dynamic=True),
    ):
        insert(deepcopy(model), {"fc": same}, found, cache)
    assert cache.made == 1
    insert(deepcopy(model), {"fc": Quantize(2, None)}, found, cache)
    assert cache.made == 2


def test_activation_ranges_come_from_the_calibration_batches() -> None:
    data = Images()
    inputs = data.all("calibration")[0]
    model = seeded(Residual)
    inserted(model, {"conv1": Quantize(None, 8), "fc": Quantize(8, 4, "mse")}, data)
    found = describe(model)
    assert found["conv1"].weight_bits is found["conv1"].weight_integers is None
    assert found["conv1"].stored is found["conv1"].function is None
    assert found["conv1"].scale == pytest.approx(float(inputs.max() - inputs.min()) / 255)
    assert found["conv1"].zero_point == round(-float(inputs.min()) / found["conv1"].scale)
    assert (found["fc"].weight_bits, found["fc"].activation_bits) == (8, 4)
    assert found["fc"].zero_point == 0


@pytest.mark.parametrize("ranges", ["percentile", "mse", "entropy"])
def test_ranges_leave_outliers_out(ranges: str) -> None:
    data = Images()
    data.all("calibration")[0][0, 0, 0, 0] = 300.0
    scales = {}
    for kind in ("minmax", ranges):
        model = seeded(Residual)
        inserted(model, {"conv1": Quantize(None, 4, kind)}, data)  # type: ignore[arg-type]
        scales[kind] = describe(model)["conv1"].scale
    assert scales[ranges] < scales["minmax"]


def test_dynamic_layers_need_no_statistics() -> None:
    model = seeded(Residual)
    cache = ContentCache()
    found = Statistics(deepcopy(model), Calibration(Images()), cache)
    insert(model, {"fc": Quantize(8, 8, dynamic=True)}, found, cache)
    assert cache.made == 1
    facts = describe(model)["fc"]
    assert facts.dynamic
    assert facts.scale is facts.zero_point is None
