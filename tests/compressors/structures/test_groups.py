"""Channel groups of whole architectures: every one cut by half, and what comes out of it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.policies.steps import Prune
from compressors.pruning.channels import prune_channels
from compressors.structures.attention import open_attentions
from compressors.structures.bundles import bundles
from compressors.structures.channel_groups import dependency_graph, group_of, sides
from compressors.structures.inspection import inspect_model
from compressors.structures.structure import Structure
from tests.compressors.architectures import ARCHITECTURES, build, data_for, example_for

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
# Parameters left at half of every group, added up by hand: convolutions, norms, linear layers.
HALVED = {
    "plain": (2 * 4 * 9 + 4) + 8 + 4 * 6 * 9 + 12 + (24 * 8 + 8) + (8 * 3 + 3),
    "resnet": (2 * 4 * 9 + 8)
    + 2 * (2 * 4 * 4 * 9 + 2 * 8)
    + (4 * 8 * 9 + 16 + 8 * 8 * 9 + 16 + 4 * 8 + 16)
    + 2 * (8 * 8 * 9 + 16)
    + (8 * 3 + 3),
    "mobilenet": (2 * 3 * 9 + 6)
    + (3 * 9 + 18 + 9 * 9 + 18 + 9 * 3 + 6)
    + (3 * 9 + 18 + 9 * 9 + 18 + 9 * 5 + 10)
    + 2 * (5 * 15 + 30 + 15 * 9 + 30 + 15 * 5 + 10)
    + (5 * 10 + 20)
    + (10 * 3 + 3),
    "densenet": 2 * 4 * 9
    + 2 * ((8 + 4 * 2 * 9) + (12 + 6 * 2 * 9))
    + (16 + 8 * 4)
    + 16
    + (8 * 3 + 3),
    "transformer": (2 * 8 * 4 + 8)
    + (8 + 17 * 8)
    + 2 * (3 * (8 * 16 + 16) + (16 * 8 + 8) + (8 * 16 + 16) + (16 * 8 + 8) + 2 * 16)
    + 16
    + (8 * 3 + 3),
    "resnext": (2 * 4 * 9 + 8)
    + (4 * 8 + 16 + 2 * 8 * 9 + 16 + 8 * 8 + 16 + 4 * 8 + 16)
    + (8 * 8 + 16 + 2 * 8 * 9 + 16 + 8 * 8 + 16)
    + (8 * 16 + 32 + 4 * 16 * 9 + 32 + 16 * 16 + 32 + 8 * 16 + 32)
    + (16 * 3 + 3),
}


def opened(name: str) -> nn.Module:
    model = build(name)
    open_attentions(model)
    return model


def halved(name: str) -> tuple[nn.Module, Structure]:
    model, example = opened(name), example_for(name)
    structure = inspect_model(model, example)
    seen = Statistics(deepcopy(model), Calibration(data_for(name)), ContentCache())
    roots = {group.root: Prune(0.5) for group in structure.groups}
    assert prune_channels(model, example, roots, seen) == ()
    return model, structure


def inputs(name: str) -> Tensor:
    (batch,) = data_for(name).batches("calibration")
    return batch.args[0]


def widths(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {n: tuple(m.weight.shape) for n, m in model.named_modules() if isinstance(m, LAYERS)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HALVED)
def test_half_of_every_group(name: str, tmp_path: Path) -> None:
    model, structure = halved(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == HALVED[name]
    for group in structure.groups:
        for member in group.members:
            assert model.get_submodule(member).weight.shape[0] == group.channels // 2
    x = inputs(name)
    with torch.no_grad():
        expected = model(x)
    assert expected.shape == (16, 3)
    assert expected.isfinite().all()
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], opset_version=17)
    (found,) = ort.InferenceSession(path).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*Unwrapped parameters:UserWarning")
@pytest.mark.parametrize("name", HALVED)
def test_widths_are_those_of_torch_prunings_own_pruner(name: str) -> None:
    theirs = opened(name)
    structure = inspect_model(theirs, example_for(name))
    heads = {layer for attention in structure.attentions for layer in attention.packed()}
    answer = structure.layers[-1].name
    pruner = tp.pruner.MagnitudePruner(
        theirs,
        example_for(name),
        tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[theirs.get_submodule(layer) for layer in (*heads, answer)],
    )
    pruner.step()
    assert widths(halved(name)[0]) == widths(theirs)


def without_norms_across_channels() -> list[str]:
    """Where a channel that is zero is as good as none: not so within a layer norm."""
    models = {name: build(name) for name in ARCHITECTURES if name != "tied"}
    return [
        name
        for name, model in models.items()
        if not any(isinstance(module, nn.LayerNorm) for module in model.modules())
    ]


@pytest.mark.parametrize("name", without_norms_across_channels())
def test_a_channel_that_is_zero_can_go_unnoticed(name: str) -> None:
    """Its writers' and norms' weights set to zero, removing it changes no output."""
    for group in inspect_model(build(name), example_for(name)).groups:
        model = build(name)
        with dependency_graph(model, example_for(name)) as graph:
            root = model.get_submodule(group.root)
            found = bundles(group.channels, sides(group_of(graph, root)))
            assert found is not None
            which = sorted([*found[1], *found[-1]])
            cut = group_of(graph, root, which)
            with torch.no_grad():
                for dependency, indices in cut:
                    _silence(dependency.target.module, dependency.handler.__name__, indices)
                expected = model(inputs(name))
            cut.prune()
        torch.testing.assert_close(model(inputs(name)), expected, atol=1e-5, rtol=1e-4)


def _silence(module: nn.Module, handler: str, indices: list[int]) -> None:
    if handler != "prune_out_channels" or getattr(module, "weight", None) is None:
        return
    weight = (
        module.weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else module.weight
    )
    weight[indices] = 0
    if module.bias is not None:
        module.bias[indices] = 0


@pytest.mark.parametrize("name", ["transformer", "own_attention"])
def test_an_embedding_dimension_is_cut_alike_everywhere(name: str) -> None:
    """Every weight that lost entries is the original's at the same kept places."""
    before = opened(name)
    structure = inspect_model(before, example_for(name))
    stream = structure.groups[0]
    assert len(stream.members) == 5
    after = deepcopy(before)
    seen = Statistics(before, Calibration(data_for(name)), ContentCache())
    prune_channels(after, example_for(name), {stream.root: Prune(0.5)}, seen)
    root = before.get_submodule(stream.root).bias
    kept = [i for i, v in enumerate(root) if v in after.get_submodule(stream.root).bias]
    assert len(kept) == stream.channels // 2
    old, cut = before.state_dict(), 0
    for key, value in after.state_dict().items():
        expected = old[key]
        for dimension, (was, now) in enumerate(zip(expected.shape, value.shape, strict=True)):
            if was != now:
                assert was == stream.channels
                expected, cut = expected.index_select(dimension, torch.tensor(kept)), cut + 1
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    assert cut >= 20


def test_an_embeddings_dimension_goes_with_what_it_is_added_to() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(9, 8), nn.Embedding(5, 8)
            self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, words: Tensor) -> Tensor:
            x = self.words(words) + self.places(torch.arange(words.shape[1]))
            return self.head(torch.relu(x + self.fc(x)).mean(1))

    (group,) = inspect_model(Words(), (torch.tensor([[1, 2, 3]]),)).groups
    assert group.root == "words"
    assert set(group.members) == {"words", "places", "fc"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inspection_leaves_everything_as_it_was(name: str) -> None:
    model = opened(name).train()
    first = next(iter(model.parameters())).requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {m: sorted(vars(m)) for m in model.modules()}
    randomness = torch.get_rng_state()
    assert inspect_model(model, example_for(name)) == inspect_model(model, example_for(name))
    assert torch.equal(randomness, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert {m: sorted(vars(m)) for m in model.modules()} == attributes
    assert all(module.training for module in model.modules())
    assert [p for p in model.parameters() if not p.requires_grad] == [first]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_precision_is_inspected_as_float(name: str) -> None:
    half = build(name, torch.bfloat16)
    open_attentions(half)
    found = inspect_model(half, example_for(name, torch.bfloat16))
    assert found == inspect_model(opened(name), example_for(name))
