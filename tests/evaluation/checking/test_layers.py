"""A lowering that went wrong is named by the layer where it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.checking.departure import departure
from evaluation.checking.layers import LayerDeparture, departing, layers
from evaluation.checking.outputs import few, outputs
from evaluation.checking.told import TellsLayers
from evaluation.target import Target
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from tests.compressors.architectures import build, data_for
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()
ARGS = few(TASK)[0]


@dataclass
class Lowered:
    """A model with 8-bit layers, and its file."""

    compressed: CompressedModel
    file: Path
    target: OrtCpu

    def checked(self) -> tuple[LayerDeparture, ...]:
        return layers(self.target, self.compressed, self.file, ARGS)

    def departing(self) -> list[str]:
        return [each.layer for each in departing(self.checked(), self.target.layer_tolerance)]

    def outputs_depart(self) -> bool:
        found = outputs(self.target, self.compressed, self.file, [ARGS])
        return found.beyond(self.target.tolerance)


@pytest.fixture
def lowered(tmp_path: Path) -> Lowered:
    target = OrtCpu(cache_dir=str(tmp_path / "cache"))
    entries = tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in LAYERS)
    compressed = apply(TASK.model(), Policy(layers=entries), TASK)
    target.lower(compressed, TASK, tmp_path / "m.onnx")
    return Lowered(compressed, tmp_path / "m.onnx", target)


Change = Callable[[np.ndarray], np.ndarray]


def sabotage(file: Path, layer: str, operand: int, part: int, change: Change) -> None:
    """Change a constant of the DequantizeLinear behind one input of a layer."""
    model = onnx.load(file)
    node = next(n for n in model.graph.node if n.name == layer)
    pair = next(n for n in model.graph.node if n.output[0] == node.input[operand])
    stored = next(i for i in model.graph.initializer if i.name == pair.input[part])
    changed = change(numpy_helper.to_array(stored).copy())
    model.graph.initializer.append(numpy_helper.from_array(changed, "changed"))
    pair.input[part] = "changed"
    onnx.save(model, file)


def one_integer(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    flat[3] = -100 if flat[3] > 0 else 100
    return values


def doubled(values: np.ndarray) -> np.ndarray:
    return values * np.float32(2)


def test_every_layer_of_an_honest_file_holds(lowered: Lowered) -> None:
    found = lowered.checked()
    assert [each.layer for each in found] == list(LAYERS)
    assert departing(found, lowered.target.layer_tolerance) == ()
    assert not lowered.outputs_depart()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("part", "change"), [(0, one_integer), (1, doubled)])
def test_a_changed_weight_is_named(lowered: Lowered, layer: str, part: int, change: Change) -> None:
    sabotage(lowered.file, layer, 1, part, change)
    assert lowered.departing() == [layer]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_doubled_scale_of_an_input_is_named(lowered: Lowered, layer: str) -> None:
    sabotage(lowered.file, layer, 0, 1, doubled)
    assert layer in lowered.departing()
    assert lowered.outputs_depart()


def test_what_went_wrong_before_a_layer_shows_in_what_gathered(lowered: Lowered) -> None:
    honest = lowered.checked()
    sabotage(lowered.file, "stem", 1, 1, doubled)
    for before, after in zip(honest[1:], lowered.checked()[1:], strict=True):
        assert after.gathered.norm > before.gathered.norm + 0.1
        assert after.alone.largest < lowered.target.layer_tolerance


def test_a_norm_folded_wrongly_is_named(lowered: Lowered) -> None:
    model = onnx.load(lowered.file)
    node = next(n for n in model.graph.node if n.name == "block.two")
    stored = next(i for i in model.graph.initializer if i.name == node.input[2])
    stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) + 0.1, stored.name))
    onnx.save(model, lowered.file)
    assert lowered.departing() == ["block.two"]


HONEST = [
    (OrtCpu, "transformer", Quantize(8, 8)),
    (OrtCpu, "mobilenet", Quantize(8, 8)),
    (OrtCpu, "tied", Quantize(8, 8)),
    (OrtCpu, "transformer", Quantize(8, 8, dynamic=True)),
    (NpuSim, "mobilenet", Quantize(4, 6)),
    (Storage, "transformer", Quantize(3, 5)),
    (Storage, "mobilenet", Quantize(4, None, function="kmeans")),
    (Storage, "decoder", Quantize(8, 8, dynamic=True)),
]


@pytest.mark.parametrize(("kind", "name", "step"), HONEST)
def test_honest_files_of_many_kinds_hold(
    kind: type[Target], name: str, step: Quantize, tmp_path: Path
) -> None:
    target, data = kind(cache_dir=str(tmp_path)), data_for(name)  # type: ignore[call-arg]
    assert isinstance(target, TellsLayers)
    model = build(name)
    everything = (torch.nn.Linear, torch.nn.Conv2d)
    kinds = torch.nn.Linear if (kind, step.dynamic) == (OrtCpu, True) else everything
    names = [n for n, module in model.named_modules() if isinstance(module, kinds)]
    entries = tuple(LayerPolicy(n, quantize=step) for n in names)
    compressed = apply(model, Policy(layers=entries), data)
    target.lower(compressed, data, tmp_path / "m")
    found = layers(target, compressed, tmp_path / "m", few(data)[0])
    assert {each.layer for each in found} >= set(names)
    assert departing(found, target.layer_tolerance) == ()


def test_departures_are_shares_of_the_simulated_size() -> None:
    simulated = torch.tensor([3.0, -4.0])
    found = departure([(simulated, simulated + torch.tensor([0.0, 1.0]))])
    assert found.norm == pytest.approx(0.2)
    assert found.largest == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_departs_from_everything(wrong: float) -> None:
    assert departure([(torch.ones(2), torch.tensor([1.0, wrong]))]).beyond(1e9)
    assert departure([(torch.zeros(2), torch.zeros(2))]).norm == 0
    assert departure([(torch.zeros(2), torch.ones(2))]).beyond(1e9)
