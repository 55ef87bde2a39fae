"""Layers of whole models: what pays, what is noted, what is kept and what is shared."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.lowrank.costs import macs_of, sizes_met, weights_of
from compressors.lowrank.factorise import halves_before
from compressors.modules import parameter_count
from compressors.policies.steps import LowRank
from tests.compressors.lowrank.single import drawn, filled, in_model
from tests.compressors.tiny import Residual, seeded

IMAGE = drawn(4, 2, 8, 8)


def test_parts_ranks_and_counts_are_as_computed() -> None:
    model = filled(nn.Sequential(nn.Conv2d(2, 20, 3), nn.Flatten(), nn.Linear(720, 30)))
    layers = {"2": LowRank(0.1), "0": LowRank(rank=2)}
    done = in_model(model, layers, IMAGE)
    assert done.parts == {"2": ("2.0", "2.1"), "0": ("0.0", "0.1")}
    assert done.ranks == {"2": (3,), "0": (2,)}
    assert done.notes == ()
    assert parameter_count(model) == 2 * (18 + 20) + 20 + 3 * (720 + 30) + 30
    assert model(IMAGE).shape == (4, 30)


def test_tucker_has_three_parts_and_two_ranks() -> None:
    model = filled(nn.Sequential(nn.Conv2d(8, 12, 3, padding=1)))
    done = in_model(model, {"0": LowRank(0.5, form="tucker")}, drawn(2, 8, 6, 6))
    assert done.parts == {"0": ("0.0", "0.1", "0.2")}
    assert done.ranks == {"0": (4, 6)}
    assert parameter_count(model) == 8 * 4 + 4 * 6 * 9 + 6 * 12 + 12


def test_more_weights_is_not_applied_and_noted() -> None:
    model = seeded(Residual)
    done = in_model(model, {"conv1": LowRank(0.9), "layer1.0.conv1": LowRank(0.5)}, IMAGE)
    assert done.ranks == {"layer1.0.conv1": (4,)}
    assert type(model.conv1) is nn.Conv2d
    assert done.notes == ("conv1: left whole, as rank 7 would take 182 weights in place of 144",)


def test_more_multiply_accumulates_is_not_applied_and_noted() -> None:
    model = filled(nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1)))
    x = drawn(1, 8, 8, 8)
    # 10 x (8 x 3) for each of 4 x 8 positions, then 8 x 30 for each of 4 x 4
    taken, whole = 4 * 8 * 10 * 24 + 16 * 8 * 30, 16 * 8 * 72
    assert taken > whole
    done = in_model(model, {"0": LowRank(rank=10, form="spatial")}, x)
    assert done.notes == (
        f"0: left whole, as rank 10 would take {taken} multiply-accumulates in place of {whole}",
    )
    assert in_model(model, {"0": LowRank(rank=7, form="spatial")}, x).ranks == {"0": (7,)}


@pytest.mark.parametrize("energy", [0.3, 1.0])
def test_energy_is_judged_too(energy: float) -> None:
    model = filled(nn.Sequential(nn.Linear(10, 10)))
    done = in_model(model, {"0": LowRank(energy=energy)}, drawn(3, 10))
    assert bool(done.notes) == (energy == 1.0)
    assert bool(done.ranks) == (energy == 0.3)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3)),
        nn.Conv2d(4, 6, 3, padding="same", dilation=2),
        nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 0)),
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Linear(4, 6),
    ],
    ids=str,
)
def test_multiply_accumulates_are_those_that_run(layer: nn.Module) -> None:
    x = drawn(1, 5, 4) if isinstance(layer, nn.Linear) else drawn(1, 4, 9, 11)
    x = x[..., 0] if isinstance(layer, nn.Conv1d) else x
    with torch.no_grad():
        after = layer(x)
        # Each weight counts once for every place of the output, or, transposed, of the input.
        places = x[0, 0].numel() if isinstance(layer, nn.ConvTranspose2d) else after[0, 0].numel()
    if isinstance(layer, nn.Linear):
        places = 1
    sizes = sizes_met(nn.Sequential(layer), {"0": layer}, (x,))
    assert macs_of([layer], sizes["0"]) == places * layer.weight.numel()
    follow = [layer, nn.Conv2d(6, 2, 1)] if after.dim() == 4 else [layer]
    if len(follow) == 2:
        assert (
            macs_of(follow, sizes["0"]) == places * layer.weight.numel() + after[0, 0].numel() * 12
        )
    assert weights_of(follow) == sum(part.weight.numel() for part in follow)


class Tied(nn.Module):
    """A table whose rows are also the weight of the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.fc = nn.Linear(8, 8)
        self.out = nn.Linear(8, 30, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.embed(x)))


@pytest.mark.parametrize("asked", [("embed",), ("out",), ("embed", "out")])
def test_a_shared_weight_stays_whole_and_is_noted(asked: tuple[str, ...]) -> None:
    model, x = Tied(), torch.arange(6).reshape(2, 3)
    before = parameter_count(model)
    done = in_model(model, dict.fromkeys(asked, LowRank(0.25)), x)
    other = {"embed": "out", "out": "embed"}
    assert done.ranks == {}
    assert done.notes == tuple(
        f"{name}: left whole, as its weight is also that of {other[name]},"
        " and shared weights stay whole"
        for name in asked
    )
    assert parameter_count(model) == before
    assert model.out.weight is model.embed.weight


def test_a_layer_called_twice_is_replaced_at_both_paths() -> None:
    layer = filled(nn.Linear(8, 8))
    model = nn.Sequential(layer, nn.ReLU(), layer)
    done = in_model(model, {"0": LowRank(0.25)}, drawn(2, 8))
    assert list(done.parts) == ["0"]
    assert model[0] is model[2]
    assert parameter_count(model) == 2 * 16 + 8


def test_a_table_that_bounds_its_rows_is_left_whole() -> None:
    model = nn.Sequential(nn.Embedding(30, 8, max_norm=1.0))
    assert "max_norm" in in_model(model, {"0": LowRank(0.25)}, torch.arange(4)[None]).notes[0]


def test_another_share_of_the_same_layers_takes_no_decomposition() -> None:
    cache, names = ContentCache(), ["layer1.0.conv1", "layer2.0.conv2"]
    for step in (LowRank(0.5), LowRank(0.5, aware=True), LowRank(0.5, form="spatial")):
        first, second = seeded(Residual), seeded(Residual)
        in_model(
            first,
            dict.fromkeys(names, LowRank(rank=3, form=step.form, aware=step.aware)),
            IMAGE,
            cache,
        )
        made = cache.made
        in_model(second, dict.fromkeys(names, step), IMAGE, cache)
        assert cache.made == made
    model = seeded(Residual)
    model.layer1[0].conv1.weight.data[0, 0, 0, 0] += 1
    in_model(model, dict.fromkeys(names, LowRank(0.5)), IMAGE, cache)
    assert cache.made == made + 1


def test_what_is_kept_gives_the_same_bits() -> None:
    cache, states = ContentCache(), []
    layers = {
        "layer1.0.conv1": LowRank(0.3, aware=True),
        "layer2.0.conv2": LowRank(0.3, form="tucker"),
    }
    for kept in (cache, cache, ContentCache()):
        model = seeded(Residual)
        in_model(model, layers, IMAGE, kept)
        states.append(model.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


def test_halves_say_what_their_input_went_through() -> None:
    model = filled(nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.Flatten(), nn.Linear(432, 9)))
    x = drawn(2, 8, 6, 6)
    layers = {"0": LowRank(0.5, form="tucker"), "2": LowRank(0.3)}
    whole = deepcopy(model)
    done = in_model(model, layers, x)
    told = halves_before(model, done.parts)
    assert [*told] == ["0.0", "0.1", "0.2", "2.0", "2.1"]
    assert {name: layer for name, (layer, _, _) in told.items()} == {n: n[0] for n in told}
    assert told["0.0"][1] is None
    torch.testing.assert_close(told["0.2"][1](x), model[0][1](model[0][0](x)))
    assert told["0.2"][2] is model[0][2]
    assert isinstance(whole[0], nn.Conv2d)


def test_frozen_layers_stay_frozen_and_state_goes_round() -> None:
    model = seeded(Residual)
    model.layer2[1].conv1.weight.requires_grad_(False)
    layers = {"layer2.1.conv1": LowRank(0.5), "layer2.1.conv2": LowRank(0.25, form="spatial")}
    in_model(model, layers, IMAGE)
    assert not any(p.requires_grad for p in model.layer2[1].conv1.parameters())
    assert all(p.requires_grad for p in model.layer2[1].conv2.parameters())
    again = seeded(Residual)
    in_model(again, layers, IMAGE)
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(IMAGE), model(IMAGE))
