"""Zeros: exactly as many as asked for, held against all masks, and on real activations."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.calibration.cache import ContentCache
from compressors.calibration.collectors import columns
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Sparsify
from compressors.pruning.masks import Masks
from compressors.pruning.obs import Selection, settled, zeroed_by_error
from compressors.pruning.selection import least, least_of_windows, removed_count
from compressors.pruning.sparsity import sparsify
from compressors.pruning.weights import as_blocks, as_weight
from compressors.stack import apply
from tests.compressors.architectures import ARCHITECTURES, build, data_for, example_for
from tests.compressors.pruning.digits import Convolutions, Rows, digits, trained
from tests.compressors.tiny import Dense, Images, Residual, seeded

WITH_INPUTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
WITH_WEIGHTS = (*WITH_INPUTS, nn.ConvTranspose2d, nn.Embedding)
LAYERS = [
    nn.Linear(9, 6),
    nn.Conv1d(5, 6, 3),
    nn.Conv2d(6, 8, 3, groups=2),
    nn.Conv2d(4, 4, 3, groups=4),
    nn.ConvTranspose2d(6, 4, 3, groups=2),
    nn.Embedding(7, 10),
]


def statistics(model: nn.Module, data: object | None = None) -> Statistics:
    data = data or Images(flat=isinstance(model, Dense))
    return Statistics(model, Calibration(data), ContentCache())


def zeroed(model: nn.Module, given_: dict[str, Sparsify], data: object | None = None) -> Masks:
    return sparsify(model, given_, statistics(model, data), ContentCache())


def layer_names(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """The layers that run as modules of their own: torch's attention calls no output layer."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, kinds) and not name.endswith("out_proj")
    ]


@given(share=st.floats(0, 0.999), total=st.integers(1, 300), levels=st.integers(1, 40))
def test_so_many_are_chosen_and_none_is_larger_than_one_left(
    share: float, total: int, levels: int
) -> None:
    generator = torch.Generator().manual_seed(total)
    scores = torch.randint(0, levels, (total,), generator=generator).float()
    count = removed_count(share, total)
    chosen = least(scores, count)
    assert int(chosen.sum()) == count
    assert abs(count - share * total) <= 0.5 + 1e-6
    expected = torch.argsort(scores, stable=True)[:count]  # ties go by index
    assert sorted(chosen.nonzero().flatten().tolist()) == sorted(expected.tolist())


@given(
    share=st.floats(0.01, 0.99),
    which=st.sampled_from(range(len(LAYERS))),
    criterion=st.sampled_from(["magnitude", "wanda", "hessian", "taylor"]),
)
@settings(max_examples=60, deadline=None)
def test_shares_are_exact_for_every_layer_and_criterion(
    share: float, which: int, criterion: str
) -> None:
    layer = deepcopy(LAYERS[which])
    if not isinstance(layer, WITH_INPUTS) and criterion in ("wanda", "hessian"):
        criterion = "magnitude"
    model = nn.Sequential(layer)
    known = statistics(model, OneLayer(layer))
    before = layer.weight.detach().clone()
    step = Sparsify(share=share, criterion=criterion)
    masks = sparsify(model, {"0": step}, known, ContentCache())
    count = removed_count(share, layer.weight.numel())
    if count == 0:
        assert torch.equal(layer.weight, before) or criterion == "hessian"
    kept = masks.of("0")
    assert kept is not None
    assert int((~kept).sum()) == int((layer.weight == 0).sum()) == count
    assert masks.sparsity("0") == pytest.approx(count / layer.weight.numel())
    if criterion != "hessian":
        assert torch.equal(layer.weight, before * kept)


class OneLayer:
    """Two batches of whatever one layer takes; the loss is what comes out, squared."""

    def __init__(self, layer: nn.Module) -> None:
        generator = torch.Generator().manual_seed(4)
        if isinstance(layer, nn.Embedding):
            self._inputs = [torch.randint(0, 7, (5, 3), generator=generator) for _ in range(2)]
            return
        features = layer.weight.shape[1] if isinstance(layer, nn.Linear) else layer.in_channels
        shape = (4, features) + (7,) * (layer.weight.dim() - 2)
        self._inputs = [torch.randn(shape, generator=generator) for _ in range(2)]

    def batches(self, split: str, **_: object) -> list[object]:
        from compressors.data import Batch

        return [Batch(x, torch.zeros(len(x))) for x in self._inputs]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_are_the_weight_seen_from_its_outputs(layer: nn.Module) -> None:
    blocks = as_blocks(layer, layer.weight)
    assert torch.equal(as_weight(layer, blocks), layer.weight)
    if isinstance(layer, nn.ConvTranspose2d):
        assert torch.equal(blocks[3, 5], layer.weight[3:6, 1, 1, 2])  # output 3 is in group 1
    elif isinstance(layer, nn.Conv2d):
        assert torch.equal(blocks[2, 5], layer.weight[2, :, 1, 2])


def best_mask(rows: Tensor, kept: int, of: int) -> float:
    """The largest sum of magnitudes that any n:m mask keeps, by trying all of them."""
    windows = rows.abs().reshape(-1, of)
    choices = [list(choice) for choice in combinations(range(of), kept)]
    return float(torch.stack([windows[:, choice].sum(1) for choice in choices]).amax(0).sum())


@pytest.mark.parametrize(("kept", "of"), [(2, 4), (1, 4), (4, 8), (3, 5)])
@pytest.mark.parametrize("layer", [nn.Linear(40, 6), nn.Conv2d(40, 3, 3)], ids=str)
def test_patterns_keep_the_largest_sum_of_magnitudes(layer: nn.Module, kept: int, of: int) -> None:
    model = nn.Sequential(deepcopy(layer))
    rows = as_blocks(layer, layer.weight.detach())
    masks = zeroed(model, {"0": Sparsify(pattern=f"{kept}:{of}")})
    left = as_blocks(model[0], model[0].weight.detach())
    assert float(left.abs().sum()) == pytest.approx(best_mask(rows, kept, of), rel=1e-5)
    windows = as_blocks(model[0], masks.of("0")).reshape(-1, of)
    assert bool((windows.sum(1) == kept).all())


def test_settling_ends_at_the_normal_equations() -> None:
    x = correlated(64, 12, 1)
    moments = x.T @ x / len(x)
    matrix = torch.randn(3, 12, generator=torch.Generator().manual_seed(1)).double()
    kept = torch.rand(3, 12, generator=torch.Generator().manual_seed(2)) < 0.5
    found = settled(matrix * kept, matrix, kept, moments)
    assert bool((found[~kept] == 0).all())
    for row, expected, left in zip(found, matrix, kept, strict=True):
        places = left.nonzero().flatten().tolist()
        assert error((row - expected)[None], moments) == pytest.approx(
            least_error(expected, moments, places), rel=1e-6
        )


def test_what_is_left_over_by_a_pattern_stays_dense() -> None:
    chosen = least_of_windows(torch.rand(3, 11), 2, 4)
    assert int(chosen.sum()) == 3 * 2 * 2
    assert not bool(chosen[:, 8:].any())
    assert not bool(least_of_windows(torch.rand(3, 2), 2, 4).any())


def correlated(rows: int, features: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator)
    return (torch.randn(rows, features, generator=generator) @ mixing).double()


def error(change: Tensor, moments: Tensor) -> float:
    return float(torch.einsum("oi,ij,oj->", change, moments, change))


def least_error(row: Tensor, moments: Tensor, kept: list[int]) -> float:
    """Of a row that may keep these weights alone, fitted anew by normal equations."""
    fitted = torch.zeros_like(row)
    fitted[kept] = torch.linalg.solve(moments[kept][:, kept], moments[kept] @ row)
    return error((row - fitted)[None], moments)


def test_weights_zeroed_by_error_come_near_the_best_of_all_masks() -> None:
    ours, best, nearest = 0.0, 0.0, 0.0
    for seed in range(12):
        x = correlated(64, 8, seed)
        moments = x.T @ x / len(x)
        matrix = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)).double()
        new, kept = zeroed_by_error(matrix[:, None], moments[None], Selection(None, (2, 4)))
        assert bool((kept.reshape(-1, 4).sum(1) == 2).all())
        ours += error(new[:, 0] - matrix, moments)
        plain = matrix * ~least_of_windows(matrix.abs(), 2, 4)
        nearest += error(plain - matrix, moments)
        windows = [[w * 4 + i for i in c] for w in range(2) for c in combinations(range(4), 2)]
        masks = [a + b for a, b in product(windows[:6], windows[6:])]
        best += sum(min(least_error(row, moments, mask) for mask in masks) for row in matrix)
    assert best <= ours < 2 * best
    assert ours < 0.5 * nearest


@cache
def seen(kind: type[nn.Module], name: str) -> Tensor:
    """What a trained network's layer reads on unseen images, as vectors."""
    model = trained(kind)
    found: list[Tensor] = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_pre_hook(
        lambda module, args: found.append(columns(module, args[0].detach())[0])
    )
    with torch.no_grad():
        model(digits().all("test")[0])
    handle.remove()
    return found[0]


@pytest.mark.parametrize("how", [{"share": 0.6}, {"pattern": "2:4"}], ids=str)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Rows, "encoder.layers.1.linear2"), (Convolutions, "6"), (Convolutions, "10")],
)
def test_surgery_beats_wanda_beats_magnitude_on_unseen_data(
    kind: type[nn.Module], name: str, how: dict[str, object]
) -> None:
    x, before = seen(kind, name), trained(kind).get_submodule(name).weight.detach().flatten(1)
    errors = {}
    for criterion in ("magnitude", "wanda", "hessian"):
        model = deepcopy(trained(kind))
        zeroed(model, {name: Sparsify(criterion=criterion, **how)}, digits())
        after = model.get_submodule(name).weight.detach().flatten(1)
        errors[criterion] = float(F.mse_loss(x @ after.T, x @ before.T))
    assert errors["hessian"] < 0.2 * min(errors["magnitude"], errors["wanda"])
    if name != "6" or "pattern" in how:  # a row of a 3 x 3 kernel gains nothing from its own share
        assert errors["wanda"] < errors["magnitude"]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "wanda", "hessian"])
def test_every_family_runs_with_zeros(name: str, criterion: str) -> None:
    kinds = WITH_WEIGHTS if criterion in ("magnitude", "taylor") else WITH_INPUTS
    for dtype in (torch.float32, torch.bfloat16):
        model = build(name, dtype)
        names = layer_names(model, kinds)
        step = Sparsify(share=0.5, criterion=criterion)
        masks = zeroed(model, dict.fromkeys(names, step), data_for(name, dtype))
        assert set(masks.names) >= set(names)  # and whoever shares their weights
        assert {p.dtype for p in model.parameters()} == {dtype}
        with torch.no_grad():
            assert bool(model(*example_for(name, dtype)).isfinite().all())


def test_one_threshold_over_the_model_takes_the_least_weights_of_all() -> None:
    model = seeded(Dense)
    everything = torch.cat([model[i].weight.detach().abs().flatten() for i in (0, 2, 4)])
    masks = zeroed(model, dict.fromkeys("024", Sparsify(share=0.4, scope="model")))
    kept = torch.cat([masks.of(name).flatten() for name in "024"])
    assert int((~kept).sum()) == removed_count(0.4, len(everything))
    assert float(everything[~kept].max()) <= float(everything[kept].min())
    assert len({round(masks.sparsity(name), 3) for name in "024"}) == 3


def test_wanda_compares_within_an_outputs_row() -> None:
    model = seeded(Dense)
    with torch.no_grad():
        model[0].weight[0] *= 1000
    masks = zeroed(model, {"0": Sparsify(share=0.5, criterion="wanda")})
    assert (~masks.of("0")).sum(1).tolist() == [64] * 24


def test_masks_hold_through_training_and_go_with_a_copy() -> None:
    model = seeded(Residual)
    step = Sparsify(pattern="2:4")
    masks = zeroed(model, {"layer1.0.conv1": step, "fc": step})
    copy, copied = deepcopy((model, masks))
    optimizer = torch.optim.SGD(copy.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        Images().loss(copy(Images().all("train")[0]), Images().all("train")[1]).backward()
        optimizer.step()
        copied.hold()
    zeros = ~copied.of("fc")
    assert bool((copy.fc.weight[zeros] == 0).all())
    assert not torch.equal(copy.fc.weight, model.fc.weight)
    assert copied.of("conv1") is None
    assert copied.sparsity("conv1") == 0


def test_one_changed_layer_computes_one_mask() -> None:
    kept = ContentCache()
    steps = dict.fromkeys("024", Sparsify(share=0.5, criterion="hessian"))
    for share, made in ((0.5, 3), (0.5, 3), (0.6, 4)):
        model = seeded(Dense)
        steps["2"] = Sparsify(share=share, criterion="hessian")
        sparsify(model, steps, statistics(model), kept)
        assert kept.made == made
    alone = seeded(Dense)
    sparsify(alone, steps, statistics(alone), ContentCache())
    assert torch.equal(alone[2].weight, model[2].weight)


def test_the_part_of_the_way_ends_at_the_whole() -> None:
    model, once = seeded(Dense), seeded(Dense)
    steps = {"0": Sparsify(share=0.7), "2": Sparsify(pattern="2:8")}
    found = []
    for done in (0.25, 0.5, 1.0):
        masks = sparsify(model, steps, statistics(model), ContentCache(), done)
        found.append((masks.sparsity("0"), masks.sparsity("2")))
    assert [f[1] for f in found] == [2 / 8, 3 / 8, 6 / 8]
    assert found[0][0] == pytest.approx(0.7 / 4, abs=1e-3)
    assert found[2][0] == pytest.approx(0.7, abs=1e-3)
    sparsify(once, steps, statistics(once), ContentCache())
    assert torch.equal(model[0].weight, once[0].weight)


def test_a_step_that_keeps_everything_does_nothing() -> None:
    model, same = seeded(Dense), seeded(Dense)
    known = statistics(model)
    model.forward = None  # whoever runs it fails
    steps = {"0": Sparsify(share=0.0, criterion="hessian"), "2": Sparsify(pattern="4:4")}
    assert sparsify(model, steps, known, ContentCache()).names == ()
    assert torch.equal(model[0].weight, same[0].weight)


class Tied(nn.Module):
    """Two layers with one weight, the second of which reads what the first makes of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b(F.relu(self.a(x.reshape(-1, 128)[:, :16]))))


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ("b",)])
@pytest.mark.parametrize("criterion", ["magnitude", "hessian", "wanda"])
def test_a_shared_weight_has_one_mask(names: tuple[str, ...], criterion: str) -> None:
    model = seeded(Tied)
    steps = [Sparsify(share=0.5, criterion=criterion), Sparsify(share=0.7, criterion=criterion)]
    masks = zeroed(model, dict(zip(names, steps, strict=False)), Images())
    weight = model.a.weight
    assert weight is model.b.weight
    assert int((weight == 0).sum()) == 128
    for name in "ab":
        assert torch.equal(masks.of(name), weight != 0)
        assert masks.sparsity(name) == 0.5
    before = weight.detach().clone()
    masks.hold()
    assert torch.equal(weight, before)
    other = "a" if names[0] == "b" else "b"
    assert [note.startswith(f"{other}: its weight is shared") for note in masks.notes] == [True]


@pytest.mark.parametrize(
    ("inputs", "step", "said", "obeyed"),
    [
        (8, Sparsify(pattern="2:4"), None, True),
        (3, Sparsify(pattern="2:4"), "zeroes none of its 24 weights, as its rows have 3", False),
        (6, Sparsify(pattern="2:4"), "leaves the last 2 of its 6 inputs dense", False),
        (8, Sparsify(share=0.005), "share 0.005 zeroes none of its 64 weights", False),
        (8, Sparsify(share=0.5), None, False),
    ],
)
def test_a_step_that_is_not_met_is_told(
    inputs: int, step: Sparsify, said: str | None, obeyed: bool
) -> None:
    model = nn.Sequential(nn.Linear(inputs, 8))
    with torch.no_grad():  # a share takes the first rows
        model[0].weight.copy_(torch.arange(1.0, 8 * inputs + 1).view(8, inputs))
    masks = sparsify(model, {"0": step}, statistics(model, OneLayer(model[0])), ContentCache())
    assert masks.obeys("0", 2, 4) == obeyed
    assert len(masks.notes) == (said is not None)
    assert said is None or said in masks.notes[0]
    assert deepcopy(masks).notes == masks.notes


def test_the_record_tells_the_zeros_that_are_there() -> None:
    steps = {
        "0": Sparsify(pattern="2:4"),
        "2": Sparsify(pattern="2:5"),
        "4": Sparsify(share=0.001),
    }
    layers = tuple(LayerPolicy(name, sparsify=step) for name, step in steps.items())
    record = apply(seeded(Dense), Policy(layers=layers), Images(flat=True)).record
    first, second, last = record.layers
    assert (first.sparsity, first.pattern, first.simulated) == (0.5, "2:4", ("sparsify",))
    assert (second.sparsity, second.pattern, second.simulated) == (0.5, None, ("sparsify",))
    assert (last.sparsity, last.pattern, last.simulated) == (0.0, None, ())
    assert [note.split(":")[0] for note in record.notes] == ["2", "4"]
