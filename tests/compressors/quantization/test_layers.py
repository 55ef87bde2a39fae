"""Quantised layers of every kind, in models of every kind, and what they say of themselves."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.errors import UserError
from compressors.policies.steps import Quantize
from compressors.quantization.layers import QuantizedLayer, describe, strip
from tests.compressors.quantization.helpers import Given, group_of, inserted, numbers, quantised
from tests.compressors.tiny import Images, Residual, seeded

W4 = Quantize(4, None)
LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(6, 4), (3, 5, 6)),
    (nn.Linear(6, 4, bias=False), (6,)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    (nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular"), (2, 4, 9)),
    (nn.Conv2d(4, 6, 3, dilation=2, padding=2, padding_mode="reflect"), (2, 4, 7, 7)),
    (nn.Conv2d(6, 6, 3, groups=6, bias=False), (2, 6, 7, 7)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 6, (2, 3), stride=(1, 2), groups=2, dilation=2), (2, 4, 5, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_every_kind_computes_what_it_would_with_its_rounded_weight(
    layer: nn.Module, shape: tuple[int, ...], granularity: str
) -> None:
    x = numbers(*shape)
    group = group_of(granularity, 5)
    entry = Quantize(3, None, granularity=granularity, group=group)  # type: ignore[arg-type]
    model = quantised(layer, x, entry)
    plain = deepcopy(layer)
    facts = describe(model)["0"]
    assert facts.stored is not None
    with torch.no_grad():
        plain.weight.copy_(facts.stored.values())
        assert torch.equal(model(x), plain(x))
    assert not torch.equal(plain.weight, layer.weight)
    assert model[0].bias is model[0].layer.bias
    per_channel = facts.stored.codes.amax(1)
    if granularity == "channel":
        assert bool(((per_channel == 6) | (facts.stored.codes.amin(1) == 0)).all())
    if granularity == "group":
        assert facts.weight_integers is None
    else:
        assert facts.weight_scales is not None
        shape_of_scales = [1] * plain.weight.dim()
        shape_of_scales[facts.stored.axis] = -1
        scales = facts.weight_scales.view(shape_of_scales)
        torch.testing.assert_close(facts.weight_integers * scales, plain.weight.detach())


def test_a_transposed_convolution_may_be_asked_for_a_size() -> None:
    x, layer = numbers(2, 4, 5, 5), nn.ConvTranspose2d(4, 6, 3, stride=2)
    wrapper = quantised(layer, x, W4)[0]
    for size in ([11, 12], [2, 6, 12, 11]):
        assert wrapper(x, size).shape == layer(x, size).shape
        assert wrapper(x, output_size=size).shape == layer(x, size).shape


def test_a_table_is_rounded_row_by_row_and_keeps_its_padding() -> None:
    table = nn.Embedding(7, 5, padding_idx=2, scale_grad_by_freq=True, sparse=True)
    x = torch.tensor([[0, 2, 6, 6]])
    model = quantised(table, x, W4)
    assert bool((model(x)[0, 1] == 0).all())
    simulated = model[0].rounded_weight()
    assert torch.equal(model(x), simulated[x])
    assert all(len(row.unique()) <= 15 for row in simulated)
    model(x).sum().backward()
    gradient = model[0].layer.weight.grad
    assert not gradient.is_sparse
    assert bool((gradient[2] == 0).all())
    assert torch.equal(gradient[6], torch.ones(5))
    bounded = quantised(nn.Embedding(7, 5, max_norm=0.5), x, Quantize(8, None))
    assert float(bounded(x).detach().norm(dim=-1).max()) <= 0.501


class ReadOutside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 6)
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        assert self.fc.in_features == self.fc.out_features == self.table.embedding_dim
        return F.linear(self.fc(self.table(x)), self.table.weight)


def test_a_weight_read_outside_of_its_layer_is_the_rounded_one() -> None:
    x, model = torch.arange(8)[None], ReadOutside()
    inserted(model, {"table": Quantize(2, None), "fc": Quantize(3, 8, smooth=0.5)}, Given(x))
    assert torch.equal(model.table.weight, model.table.rounded_weight())
    assert not torch.equal(model.table.weight, model.table.layer.weight)
    factors = model.fc.smoothing
    torch.testing.assert_close(model.fc.weight * factors, model.fc.rounded_weight())
    model(x).sum().backward()
    assert float(model.table.layer.weight.grad.abs().sum()) > 0


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.again(F.relu(self.first(x)))))


def test_modules_called_twice_and_weights_in_common() -> None:
    x, model = numbers(30, 6), Twice()
    inserted(model, {"first": Quantize(4, 8), "second": Quantize(8, 4)}, Given(x))
    assert model.first is model.again
    assert model.first.layer.weight is model.second.layer.weight
    assert sorted(describe(model)) == ["first", "second"]
    model(x).sum().backward()
    assert len(list(model.parameters())) == 3
    strip(model)
    assert model.first is model.again


def test_a_shared_weight_that_is_rounded_for_its_own_inputs_is_shared_no_longer() -> None:
    x, model = numbers(30, 6), Twice()
    before = model.second.weight.detach().clone()
    notes = inserted(model, {"first": Quantize(3, None, rounding="gptq")}, Given(x))
    assert notes == ("first: its weight, rounded for its own inputs, is no longer shared",)
    assert torch.equal(model.second.weight, before)
    assert not torch.equal(model.first.weight, before)


def test_a_shared_bias_that_is_corrected_is_shared_no_longer() -> None:
    x, plain = numbers(300, 6) + 2, Twice()
    plain.second.bias = plain.first.bias
    model = deepcopy(plain)
    entry = Quantize(2, None, bias_correction=True)
    notes = inserted(model, {"first": entry, "second": entry}, Given(x))
    assert notes == ("first: its bias, corrected for its own inputs, is no longer shared",)
    strip(model)
    assert model.first.bias is not model.second.bias
    assert not torch.equal(model.first.bias, plain.first.bias)
    assert not torch.equal(model.first.bias, model.second.bias)
    alone = deepcopy(plain)
    inserted(alone, {"second": entry}, Given(x))
    torch.testing.assert_close(model.second.bias, alone.second.bias)


def test_masked_weights_stay_zero_though_they_are_trained() -> None:
    x, mask = numbers(40, 16), (numbers(8, 16, seed=4) > 0).float()
    model = nn.Sequential(nn.Linear(16, 8))
    with torch.no_grad():
        model[0].weight.mul_(mask)
    inserted(model, {"0": Quantize(1, None, function="binary")}, Given(x), {"0": mask})
    with torch.no_grad():
        model[0].layer.weight.add_(1.0)
    assert torch.equal(model[0].rounded_weight() != 0, mask > 0)
    stored = describe(model)["0"].stored
    assert stored is not None
    assert torch.equal(stored.values(), model[0].rounded_weight())


def test_stripping_gives_the_plain_model_back() -> None:
    model, plain = seeded(Residual), seeded(Residual)
    images = Images().all("validation")[0]
    inserted(model, {"layer1.0.conv1": Quantize(4, 4), "fc": Quantize(8, None)})
    assert not torch.equal(model(images), plain(images))
    strip(model)
    assert torch.equal(model(images), plain(images))


def test_wrappers_take_the_mode_of_their_layers_and_state_goes_round() -> None:
    entry = Quantize(4, 8, "mse", "asymmetric")
    model, other = seeded(Residual).train(), seeded(Residual)
    inserted(model, {"conv1": entry})
    assert model.conv1.training
    assert isinstance(model.conv1, QuantizedLayer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    inserted(other, {"conv1": entry})
    other.load_state_dict(model.state_dict())
    images = Images().all("validation")[0]
    assert torch.equal(other.eval()(images), model.eval()(images))


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match="weights of '0' are not all finite"):
        inserted(model, {"0": W4}, Given(numbers(3, 4)))


def test_float_entries_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    assert inserted(model, {"0": Quantize(None, None)}, Given(numbers(3, 4))) == ()
    assert isinstance(model[0], nn.Linear)
