"""What layers compute for one sample: every run of one, its shape, its bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize, Sparsify
from compressors.record import CompressedModel, Record
from compressors.stack import apply
from evaluation.costs.counting import macs
from evaluation.work import Work, work_of
from tests.contracts.models import build, data_for
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()


def plain(module: nn.Module, *example: Tensor) -> tuple[Work, ...]:
    return work_of(CompressedModel(module, Record("", 0, ()), example))


def shapes(module: nn.Module, *example: Tensor) -> list[str]:
    return [work.shape for work in plain(module, *example)]


def test_bits_and_zeros_are_the_records() -> None:
    floats = Quantize(8, 8, function="e4m3", inputs="e4m3")
    steps = {"block.one": Quantize(4, 8), "down": Quantize(8, None), "stem": floats}
    entries = [LayerPolicy(name, quantize=step) for name, step in steps.items()]
    entries.append(LayerPolicy("block.two", sparsify=Sparsify(pattern="2:4")))
    model = apply(TASK.model(), Policy(layers=tuple(entries)), TASK)
    found = {each.layer: each for each in work_of(model)}
    assert tuple(found) == LAYERS
    bits = {name: (each.weight_bits, each.activation_bits) for name, each in found.items()}
    assert (bits["block.one"], bits["down"], bits["fc"]) == ((4, 8), (8, None), (None, None))
    assert found["block.two"].zeros == 0.5
    assert found["stem"].zeros == 0
    assert [name for name, each in found.items() if each.float_inputs] == ["stem"]
    assert found["block.one"] == Work(
        layer="block.one",
        kind="conv2d",
        shape="16x16x3x3 s1 p1 d1 g1 @12x12",
        macs=16 * 16 * 9 * 144,
        weights=16 * 16 * 9,
        inputs=16 * 144,
        outputs=16 * 144,
        weight_bits=4,
        activation_bits=8,
    )


def test_a_batch_counts_as_one_sample_and_modes_stay() -> None:
    model = TASK.model().train()
    model.get_submodule("norm").eval()
    modes = [module.training for module in model.modules()]
    assert plain(model, torch.zeros(1, 1, 12, 12)) == plain(model, torch.zeros(7, 1, 12, 12))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_runs_twice_is_there_twice() -> None:
    layer = nn.Linear(6, 6)
    found = plain(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 6))
    assert [each.macs for each in found] == [36, 36]
    assert found[0] == found[1]


def test_shapes_tell_apart_whatever_takes_another_time() -> None:
    image = torch.zeros(1, 4, 9, 9)
    layers = [
        nn.Conv2d(4, 8, 3),
        nn.Conv2d(4, 8, (3, 1)),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.Conv2d(4, 8, 3, stride=(2, 1)),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 8, 3, dilation=2),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.ConvTranspose2d(4, 8, 3, stride=2),
        nn.ConvTranspose2d(4, 8, 3, stride=2, output_padding=1),
    ]
    found = [shapes(layer, image)[0] for layer in layers]
    assert len(set(found)) == len(layers)
    assert found[3] == "8x4x3x3 s2x1 p0 d1 g1 @9x9"
    assert shapes(nn.Conv2d(4, 8, 3), torch.zeros(1, 4, 9, 8)) == ["8x4x3x3 s1 p0 d1 g1 @9x8"]


def test_shapes_of_the_other_kinds() -> None:
    assert shapes(nn.Linear(12, 5), torch.zeros(2, 7, 12)) == ["5x12 @7"]
    assert shapes(nn.Embedding(11, 8), torch.zeros(2, 4, dtype=torch.long)) == ["11x8 @4"]
    assert shapes(nn.Conv1d(3, 8, 5, 2), torch.zeros(1, 3, 11)) == ["8x3x5 s2 p0 d1 g1 @11"]


def test_an_attention_counts_alike_closed_and_open() -> None:
    closed, data = build("attention"), data_for("attention")
    step = LayerPolicy("encoder.layers.0.self_attn.q_proj", quantize=Quantize(8, 8))
    policy = Policy(layers=(step,))
    before, after = (work_of(apply(closed, each, data)) for each in (Policy(), policy))
    assert [each.shape for each in before] == [each.shape for each in after]
    assert [each.layer for each in before] == [each.layer for each in after]
    assert [each.weight_bits for each in after if each.layer == step.name] == [8]
    projections = [each for each in before if "self_attn" in each.layer]
    positions = projections[0].inputs // 8
    assert [each.macs for each in projections] == [8 * 8 * positions] * 4
    assert isinstance(closed.get_submodule("encoder.layers.0.self_attn"), nn.MultiheadAttention)


def test_macs_are_the_sum_of_the_work() -> None:
    example = torch.zeros(3, 1, 12, 12)
    model = TASK.model()
    assert macs(model, (example,)) == sum(each.macs for each in plain(model, example))
