"""What policies share on one stack never changes what any of them gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from compressors.calibration.cache import ContentCache
from compressors.calibration.statistics import Calibration, Statistics
from compressors.data import Batch
from compressors.policies.policy import LayerPolicy, Policy, Recovery, Rounds
from compressors.policies.steps import LowRank, Prune, Quantize, Sparsify
from compressors.record import CompressedModel
from compressors.stack import Stack
from tests.compressors.tiny import Dense, Images, Residual, seeded, trained

DATA = Images(flat=True)
INT8 = Quantize(8, 8)
PLAIN = Policy(layers=(LayerPolicy("0", Prune(0.25)), LayerPolicy("2", quantize=INT8)))
BEFORE = {
    "sparsify": Sparsify(0.7, criterion="wanda"),
    "lowrank": LowRank(0.25, aware=True),
}


def scale(compressed: CompressedModel, name: str) -> float:
    return float(compressed.module.get_submodule(name).input_quantizer.scale)


@pytest.mark.parametrize("step", BEFORE)
def test_statistics_are_of_the_model_that_they_are_kept_for(step: str) -> None:
    expected = scale(Stack(seeded(Dense), DATA).apply(PLAIN), "2")
    stack = Stack(seeded(Dense), DATA)
    first = replace(PLAIN.layers[0], **{step: BEFORE[step]})
    stack.apply(replace(PLAIN, layers=(first, PLAIN.layers[1])))
    assert scale(stack.apply(PLAIN), "2") == expected


def test_ranges_are_of_what_training_between_rounds_left() -> None:
    layers = (LayerPolicy("0", sparsify=Sparsify(0.5)), LayerPolicy("2", quantize=INT8))
    policy = Policy(layers=layers, rounds=Rounds(2, 4), recovery=Recovery(learning_rate=1e-2))
    compressed = Stack(seeded(Dense), DATA).apply(policy)
    assert len(compressed.record.rounds) == 2
    seen: list[Tensor] = []
    layer = compressed.module.get_submodule("2")
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        compressed.module(DATA.all("calibration")[0])
    assert scale(compressed, "2") * 255 == pytest.approx(float(seen[0].max()), rel=1e-5)


def test_a_round_taken_back_leaves_no_trace() -> None:
    kept = LayerPolicy("2", quantize=INT8)
    bound = Rounds(1, 0, loss_rise=0.0)
    policy = Policy(layers=(LayerPolicy("0", sparsify=Sparsify(0.95)), kept), rounds=bound)
    compressed = Stack(trained(Dense, DATA), DATA).apply(policy)
    assert compressed.record.layers[0].sparsity == 0
    assert "taken back" in " ".join(compressed.record.notes)
    plain = Stack(trained(Dense, DATA), DATA).apply(Policy(layers=(kept,)))
    assert scale(compressed, "2") == scale(plain, "2")


def test_the_bound_of_rounds_is_the_originals_loss() -> None:
    model, data = trained(Residual, Images()), Images()
    policy = Policy(
        remove=("layer1.0", "layer1.1", "layer2.1"),
        layers=(LayerPolicy("conv1", Prune(0.25)),),
        rounds=Rounds(1, 0, loss_rise=0.0),
    )
    compressed = Stack(model, data).apply(policy)
    assert compressed.record.layers[0].removed_channels == 0
    assert "taken back" in compressed.record.notes[-1]


class Switched(nn.Module):
    """Layers alike, and a function between them that only the code tells apart."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(128, 8), nn.Linear(8, 3)
        self._between = getattr(torch, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self._between(self.first(x)))


def test_models_that_differ_in_their_code_alone_share_nothing(tmp_path: Path) -> None:
    policy = Policy(layers=(LayerPolicy("second", quantize=INT8),))
    scales = []
    for name in ("relu", "sigmoid"):
        torch.manual_seed(0)
        model = Switched(name).eval()
        fresh = Stack(model, DATA).apply(policy)
        shared = Stack(model, DATA, ContentCache(tmp_path)).apply(policy)
        assert scale(shared, "second") == scale(fresh, "second")
        scales.append(scale(fresh, "second"))
    assert scales[0] != scales[1]


class Squared(Images):
    """The same batches, another loss."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, F.one_hot(targets, 3).float())


def test_gradients_are_of_the_tasks_own_loss() -> None:
    cache, model = ContentCache(), seeded(Dense)
    one = Statistics(model, Calibration(DATA), cache).gradients(["0"])["0"]
    two = Statistics(model, Calibration(Squared(flat=True)), cache).gradients(["0"])["0"]
    assert not torch.equal(one.mean, two.mean)


class Loaded:
    """Batches from torch's own loader, which draws a number whenever it is gone through."""

    def __init__(self) -> None:
        self._data = Images()

    def batches(self, split: str, *, batch_size: int | None = None, seed: int | None = None):
        pairs = list(zip(*self._data.all(split), strict=True))
        for images, targets in DataLoader(pairs, batch_size=batch_size or 16):
            yield Batch(images, targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)


def test_a_policy_gives_the_same_whatever_was_already_known() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(288, 3),
    ).eval()
    stack = Stack(model, Loaded())
    policy = Policy(layers=(LayerPolicy("0", Prune(0.5)),), recovery=Recovery(epochs=2))
    losses = [stack.apply(policy).record.recovery.losses for _ in range(2)]
    assert losses[0] == losses[1]
