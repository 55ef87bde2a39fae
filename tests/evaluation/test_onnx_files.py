"""The files are small: nothing in them that the graph does not need."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.stack import apply
from evaluation.lowering.export import export
from evaluation.lowering.graph import Graph, signature, to_model
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.tasks.resnet import ResNet20
from tests.evaluation.test_integer_kernels import Given
from tests.evaluation.tiny import LAYERS, TinyTask


def resnet() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResNet20().eval()


def test_a_float_export_answers_as_torch_does_for_any_batch() -> None:
    model = resnet()
    graph, _ = export(model, (torch.zeros(1, 1, 32, 32),))
    written = to_model(graph)
    onnx.checker.check_model(written, full_check=True)
    session = onnxruntime.InferenceSession(written.SerializeToString())
    for batch in (1, 7):
        inputs = torch.randn(batch, 1, 32, 32)
        with torch.no_grad():
            expected = model(inputs).numpy()
        np.testing.assert_allclose(
            session.run(None, {"input": inputs.numpy()})[0], expected, atol=1e-4
        )


def test_nothing_is_left_of_batch_norms_and_names() -> None:
    written = to_model(export(resnet(), (torch.zeros(1, 1, 32, 32),))[0])
    assert {n.op_type for n in written.graph.node} == {
        *("Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm")
    }
    weights = sum(onnx.numpy_helper.to_array(i).nbytes for i in written.graph.initializer)
    assert len(written.SerializeToString()) < weights + 4000
    assert not written.graph.value_info
    names = {n.name for n in written.graph.node if n.op_type in ("Conv", "Gemm")}
    assert {"conv1", "layer3.0.shortcut.0", "fc"} <= names
    assert max(len(i.name) for i in written.graph.initializer) <= 2


def test_exporting_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(resnet(), (torch.zeros(1, 1, 32, 32),))
    assert capfd.readouterr() == ("", "")


def test_equal_constants_are_stored_once_and_dead_ones_not_at_all() -> None:
    float_type = onnx.TensorProto.FLOAT
    graph = Graph(
        [
            helper.make_node("Mul", ["x", "one"], ["a"]),
            helper.make_node("Mul", ["x", "dead"], ["b"]),
            helper.make_node("Add", ["a", "two"], ["y"]),
        ],
        {name: np.array(3.0, np.float32) for name in ("one", "two", "dead", "unused")},
        [helper.make_tensor_value_info("x", float_type, ["n"])],
        [helper.make_tensor_value_info("y", float_type, ["n"])],
    )
    written = to_model(graph)
    assert len(written.graph.initializer) == 1
    assert [n.op_type for n in written.graph.node] == ["Mul", "Add"]
    assert signature(graph) == signature(graph)


def test_a_quantised_file_is_valid_by_the_standard(tmp_path: Path) -> None:
    task = TinyTask()
    entries = tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in LAYERS)
    compressed = apply(task.model(), Policy(layers=entries), task)
    path = tmp_path / "m.onnx"
    OrtCpu(cache_dir=str(tmp_path)).lower(compressed, task, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def perceptron() -> torch.nn.Module:
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (linear(1024, 256), relu(), linear(256, 128), relu(), linear(128, 10))
        return torch.nn.Sequential(torch.nn.Flatten(), *layers).eval()


FIXED = Quantize(8, 8)
# Bytes a layer beside weights, scales and biases: its nodes, names, shapes, zero points.
OVERHEADS: list[tuple[Callable[[], torch.nn.Module], Quantize, int]] = [
    (resnet, FIXED, 185),
    (resnet, Quantize(5, 8), 245),
    (resnet, Quantize(3, None), 95),
    (perceptron, FIXED, 480),
    (perceptron, Quantize(8, 8, dynamic=True), 220),
    (perceptron, Quantize(4, None), 280),
    (perceptron, Quantize(4, None, granularity="group", group=64), 250),
    (perceptron, Quantize(4, None, function="asymmetric", granularity="group", group=32), 265),
]


@pytest.mark.parametrize(("build", "step", "a_layer"), OVERHEADS)
def test_a_file_has_its_weights_in_their_bits_and_little_else(
    build: Callable[[], torch.nn.Module], step: Quantize, a_layer: int, tmp_path: Path
) -> None:
    given = Given(build(), (1, 32, 32))
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    layers = {name: x for name, x in given.model().named_modules() if isinstance(x, kinds)}
    policy = Policy(layers=tuple(LayerPolicy(name, quantize=step) for name in layers))
    compressed = apply(given.model(), policy, given)
    target = OrtCpu(cache_dir=str(tmp_path), storage_only=True)
    size = target.lower(compressed, given, tmp_path / "m.onnx").size_bytes
    assert step.weights is not None
    needed = 0.0
    for layer in layers.values():
        outputs, scales = len(layer.weight), len(layer.weight)
        if step.granularity == "group":
            scales = layer.weight.numel() // step.group
        zeros = scales * step.weights / 8 if step.function == "asymmetric" else 0
        needed += layer.weight.numel() * step.weights / 8 + 4 * scales + 4 * outputs + zeros
    assert size - needed < a_layer * len(layers), (size - needed) / len(layers)


def test_integers_are_faster_and_smaller(tmp_path: Path) -> None:
    """On ResNet-20: measured here 2.0 to 2.2 times and 3.84 times, with room for a loud machine."""

    class Task(TinyTask):
        def __init__(self) -> None:
            super().__init__()
            inputs = torch.randn(len(self._samples.inputs), 1, 32, 32)
            self._samples = type(self._samples)(inputs, self._samples.targets, self._samples.splits)

    task, target, model = Task(), OrtCpu(cache_dir=str(tmp_path)), resnet()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    policies = (
        Policy(),
        Policy(layers=tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in names)),
    )
    plain, small = (
        target.lower(apply(model, policy, task), task, tmp_path / f"{n}.onnx")
        for n, policy in enumerate(policies)
    )
    assert plain.size_bytes / small.size_bytes > 3.8
    assert target.compare(plain.path, [small.path])[0].speedup > 1.15
