"""Files for TensorRT: pairs where its rules want them, and the simulation's arithmetic in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper
from torch import nn

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize, Sparsify
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.checking.layers import departing, layers
from evaluation.checking.outputs import few, outputs
from evaluation.evaluator import Evaluator
from evaluation.lowering.graph import Graph
from evaluation.target_extras import further, why_untimed
from evaluation.targets.tensorrt import halves
from evaluation.targets.tensorrt.opener import ArithmeticOpener
from evaluation.targets.tensorrt.target import TensorRT
from search.front.validate import exported, timed
from search.study.objectives import check_timing
from tests.compressors.architectures import build, data_for
from tests.contracts.test_targets import (  # noqa: F401  # promises that need no timing
    test_impossible_arguments_are_refused,
    test_limits_reach_the_process_that_opens_files,
)
from tests.evaluation.tiny import TinyTask

SIGNED = Quantize(8, 8, signed=True)
FLOATS = Quantize(8, 8, function="e4m3", inputs="e4m3")
FAMILIES = ("resnet", "mobilenet", "transformer")
COMPUTES = ("Conv", "Gemm", "MatMul")


@pytest.fixture
def target(tmp_path: Path) -> TensorRT:
    return TensorRT(cache_dir=str(tmp_path / "cache"))


def every_layer(name: str) -> list[str]:
    kinds = (nn.Linear, nn.Conv2d)
    return [n for n, module in build(name).named_modules() if isinstance(module, kinds)]


@cache
def made(
    name: str, step: Quantize | None = SIGNED, sparsify: Sparsify | None = None
) -> CompressedModel:
    """Every layer quantised so; in 8-bit floats those that can be, and the others in integers."""
    grouped = {n for n, layer in build(name).named_modules() if getattr(layer, "groups", 1) > 1}
    entries = tuple(
        LayerPolicy(
            layer, quantize=SIGNED if step and layer in grouped else step, sparsify=sparsify
        )
        for layer in every_layer(name)
    )
    return apply(build(name), Policy(layers=entries), data_for(name))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """The files of three families, with every layer in integers."""
    folder = tmp_path_factory.mktemp("written")
    graphs = {}
    for name in FAMILIES:
        TensorRT(cache_dir=str(folder)).lower(made(name), data_for(name), folder / name)
        model = onnx.load(folder / name)
        onnx.checker.check_model(model, full_check=True)
        graphs[name] = Graph.of(model)
    return graphs


def of(graph: Graph, kind: str) -> list[NodeProto]:
    return [node for node in graph.nodes if node.op_type == kind]


@pytest.mark.parametrize("name", FAMILIES)
def test_integers_are_signed_with_zero_points_of_zero(written: dict[str, Graph], name: str) -> None:
    graph = written[name]
    pairs = [*of(graph, "QuantizeLinear"), *of(graph, "DequantizeLinear")]
    assert len(pairs) > 2 * len(every_layer(name))
    for node in pairs:
        zero = graph.constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (graph.constants[node.input[1]] > 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_reads_a_pair_and_weights_by_channel(
    written: dict[str, Graph], name: str
) -> None:
    graph = written[name]
    nodes = {node.name: node for node in graph.nodes if node.name}
    for layer in every_layer(name):
        node = nodes[layer]
        back = graph.producer(node.input[0])
        assert back is not None
        assert back.op_type == "DequantizeLinear"
        there = graph.producer(back.input[0])
        assert there is not None
        assert there.op_type == "QuantizeLinear"
        assert list(there.input[1:]) == list(back.input[1:])
        read = graph.producer(node.input[1])
        assert read is not None
        integers, scales = (graph.constants[n] for n in read.input[:2])
        axis = read.attribute[0].i
        assert integers.dtype == np.int8
        assert int(integers.min()) >= -127
        assert scales.shape == (integers.shape[axis],)
        assert axis == (1 if node.op_type == "MatMul" else 0)
        for bias in node.input[2:]:
            assert graph.constants[bias].dtype == np.float32


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_rounded_but_what_layers_and_additions_read(
    written: dict[str, Graph], name: str
) -> None:
    graph = written[name]
    for node in of(graph, "DequantizeLinear"):
        readers = {reader.op_type for reader in graph.consumers(node.output[0])}
        assert readers <= {*COMPUTES, "Add"}
        assert readers


def chain(graph: Graph, tensor: str) -> Iterator[str]:
    """The kinds of the nodes above a tensor, up to the first layer."""
    node = graph.producer(tensor)
    while node is not None:
        yield node.op_type
        if node.op_type in COMPUTES:
            return
        node = graph.producer(node.input[0])


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_of_a_residual_addition_one_side_is_its_layers_and_the_other_is_rounded(
    written: dict[str, Graph], name: str
) -> None:
    graph = written[name]
    rounded = 0
    for node in of(graph, "Add"):
        above = [next(iter(chain(graph, side))) for side in node.input]
        if "DequantizeLinear" in above:
            rounded += 1
            assert sorted(above) == ["Conv", "DequantizeLinear"]
        else:  # nothing that runs in integers reads it
            behind = [reader.op_type for reader in graph.consumers(node.output[0])]
            assert "QuantizeLinear" not in behind
    assert rounded >= 2


def test_batch_norms_are_in_the_layers(written: dict[str, Graph]) -> None:
    assert not of(written["resnet"], "BatchNormalization")


@pytest.mark.parametrize("name", [*FAMILIES, "resnext", "own_attention"])
@pytest.mark.parametrize("step", [SIGNED, FLOATS, None], ids=["int8", "fp8", "float"])
def test_files_answer_as_simulated(
    target: TensorRT, name: str, step: Quantize | None, tmp_path: Path
) -> None:
    compressed, data = made(name, step), data_for(name)
    target.lower(compressed, data, tmp_path / "m.onnx")
    assert not outputs(target, compressed, tmp_path / "m.onnx", few(data)).beyond(target.tolerance)
    found = layers(target, compressed, tmp_path / "m.onnx", few(data)[0])
    called = {layer for layer in every_layer(name) if "self_attn" not in layer}
    assert {each.layer for each in found} >= called
    assert departing(found, target.layer_tolerance) == ()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("step", [SIGNED, FLOATS, None], ids=["int8", "fp8", "float"])
def test_halves_answer_as_simulated_in_half_the_bytes(
    target: TensorRT, name: str, step: Quantize | None, tmp_path: Path
) -> None:
    compressed, data = made(name, step), data_for(name)
    single = target.lower(compressed, data, tmp_path / "single.onnx")
    half = TensorRT(cache_dir=str(tmp_path), precision="fp16")
    artifact = half.lower(compressed, data, tmp_path / "m.onnx")
    assert artifact.signature != single.signature
    assert artifact.size_bytes < single.size_bytes
    tolerance = max(half.tolerance, further(half, compressed))
    assert tolerance == (0.1 if step == FLOATS else 0.05)
    assert not outputs(half, compressed, artifact.path, few(data)).beyond(tolerance)
    assert departing(layers(half, compressed, artifact.path, few(data)[0]), tolerance) == ()
    model = onnx.load(artifact.path)
    onnx.checker.check_model(model, full_check=True)
    graph = Graph.of(model)
    assert {value.dtype for value in graph.constants.values()}.isdisjoint({np.dtype("float32")})
    before = Graph.of(onnx.load(single.path))
    kept = [value for value in before.constants.values() if value.dtype == np.int8 and value.any()]
    assert all(any(np.array_equal(v, k) for v in graph.constants.values()) for k in kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_eight_bit_floats_stand_where_integers_would_and_additions_stay_in_float(
    target: TensorRT, name: str, tmp_path: Path
) -> None:
    compressed = made(name, FLOATS)
    target.lower(compressed, data_for(name), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]
    graph = Graph.of(model)
    nodes = {node.name: node for node in graph.nodes if node.name}
    counted = 0
    for layer, facts in describe(compressed.module).items():
        back, read = (graph.producer(source) for source in nodes[layer].input[:2])
        assert back is not None
        assert read is not None
        there = graph.producer(back.input[0])
        assert there is not None
        scale, *zeros = (graph.constants[n] for n in (*back.input[1:], there.input[2]))
        assert float(scale) == facts.scale
        kind = ml_dtypes.float8_e4m3fn if facts.inputs == "e4m3" else np.int8
        weights, scales, zero = (graph.constants[n] for n in read.input)
        assert {value.dtype for value in (weights, zero, *zeros)} == {np.dtype(kind)}
        assert not any(value.astype(float).any() for value in (zero, *zeros))
        assert scales.shape == zero.shape == (weights.shape[read.attribute[0].i],)
        assert np.abs(weights.astype(np.float32)).max() == (448 if facts.inputs == "e4m3" else 127)
        counted += facts.inputs == "e4m3"
    assert counted > 5
    for node in of(graph, "Add"):
        sides = [graph.producer(side) for side in node.input]
        kinds = [graph.constants[s.input[2]].dtype for s in sides if s and "Dequan" in s.op_type]
        assert set(kinds) <= {np.dtype(np.int8)}


def test_files_without_eight_bit_floats_are_for_older_tensorrts(
    target: TensorRT, tmp_path: Path
) -> None:
    for step in (SIGNED, None):
        target.lower(made("resnet", step), data_for("resnet"), tmp_path / "m.onnx")
        assert [entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import] == [17]


def test_eight_bit_floats_in_groups_are_refused(target: TensorRT, tmp_path: Path) -> None:
    layer = next(n for n, m in build("resnext").named_modules() if getattr(m, "groups", 1) > 1)
    policy = Policy(layers=(LayerPolicy(layer, quantize=FLOATS),))
    compressed = apply(build("resnext"), policy, data_for("resnext"))
    with pytest.raises(UserError, match=r"as fp8 in \d+ groups; valid: layers of one group"):
        target.lower(compressed, data_for("resnext"), tmp_path / "m.onnx")


def test_scales_of_eight_bit_floats_are_widened_by_powers_of_two() -> None:
    levels = np.array([[448, -0.5], [3.5, 8]]).astype(ml_dtypes.float8_e4m3fn)
    scales = np.array([1e-6, 1e-2], np.float32)
    read = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0)
    node = helper.make_node("MatMul", ["x", "f"], ["y"])
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 2]) for n in "xy"]
    constants = {"w": levels, "s": scales, "z": np.zeros(2, levels.dtype)}
    made = halves.in_halves(Graph([read, node], constants, ends[:1], ends[1:]))
    (back,) = of(made, "DequantizeLinear")
    values, wide = (made.constants[name] for name in back.input[:2])
    assert (values.dtype, wide.dtype) == (levels.dtype, np.float16)
    assert float(values[0, 0]) == 448 / 64
    assert np.array_equal(values[1], levels[1])
    whole = levels.astype(float) * scales[:, None]
    assert values.astype(float) * wide.astype(float)[:, None] == pytest.approx(whole, rel=1e-3)


def test_scales_that_a_half_cannot_hold_are_widened_and_integers_follow() -> None:
    scales, integers = np.array([1e-6, 1e-2], np.float32), np.array([[100, -127], [3, 4]], np.int8)
    read = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0)
    node = helper.make_node("MatMul", ["x", "f"], ["y"])
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 2]) for n in "xy"]
    constants = {"w": integers, "s": scales, "z": np.zeros(2, np.int8)}
    made = halves.in_halves(Graph([read, node], constants, ends[:1], ends[1:]))
    (back,) = of(made, "DequantizeLinear")
    values, wide = (made.constants[name] for name in back.input[:2])
    assert wide.dtype == np.float16
    expected = integers * scales[:, None]
    assert np.abs(values * wide.astype(float)[:, None] - expected).max() < 1e-4
    assert np.array_equal(values[1], integers[1])
    assert (wide > 0).all()


def test_numbers_beyond_halves_are_the_largest_and_infinite_ones_stay() -> None:
    found = halves.half(np.array([1e9, -1e9, np.inf, 1.0], np.float32))
    assert found.tolist() == [65504.0, -65504.0, np.inf, 1.0]


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"precision cannot be 'fp8'; valid: fp32.*fp16"):
        TensorRT(precision="fp8")


def test_sparse_weights_obey_two_of_four_along_input_channels(
    target: TensorRT, tmp_path: Path
) -> None:
    compressed = made("resnet", sparsify=Sparsify(pattern="2:4"))
    target.lower(compressed, data_for("resnet"), tmp_path / "m.onnx")
    graph = Graph.of(onnx.load(tmp_path / "m.onnx"))
    nodes = {node.name: node for node in graph.nodes if node.name}
    checked = 0
    for layer in compressed.record.layers:
        if layer.pattern != "2:4":
            continue
        assert target.capability.simulated(layer) == ()
        read = graph.producer(nodes[layer.name].input[1])
        assert read is not None
        integers = np.moveaxis(graph.constants[read.input[0]], 1, -1)
        windows = integers.reshape(-1, integers.shape[-1] // 4, 4)
        assert int((windows != 0).sum(-1).max()) == 2
        checked += 1
    assert checked > 5


def test_activations_with_a_zero_point_are_refused(target: TensorRT, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zero point; valid: signed true"):
        target.lower(made("resnet", Quantize(8, 8)), data_for("resnet"), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.fixture
def uninstalled(target: TensorRT) -> TensorRT:
    if target.untimed is None:
        pytest.skip("a TensorRT is installed")
    return target


def test_without_a_tensorrt_nothing_is_said_of_speed(uninstalled: TensorRT, tmp_path: Path) -> None:
    artifact = uninstalled.lower(made("resnet"), data_for("resnet"), tmp_path / "m.onnx")
    for ask in (
        lambda: uninstalled.latency(artifact, artifact),
        lambda: uninstalled.compare(artifact.path, [artifact.path]),
    ):
        with pytest.raises(UserError, match=r"cannot time files, as no TensorRT is installed"):
            ask()


def test_a_study_without_timing_states_all_the_rest(
    uninstalled: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path))
    evaluator = Evaluator(TinyTask(), uninstalled)
    made = evaluator.evaluate(Policy(), tmp_path / "m.onnx")
    names = {value.metric.name for value in made.measurement.values}
    assert names >= {"error", "size_bytes", "macs"}
    assert "latency_ms" not in names
    own, other = timed(evaluator, made.artifact, [made.artifact])
    assert own is None
    stated = {value.metric.name for value in exported(evaluator, made.artifact, other).values}
    assert stated == {"error", "test_error", "size_bytes"}


def test_a_latency_is_refused_as_objective_before_any_trial(uninstalled: TensorRT) -> None:
    why = why_untimed(uninstalled)
    check_timing(("quality", "size_bytes"), uninstalled.name, why)
    check_timing(("quality", "latency_ms"), "ort_cpu", None)
    with pytest.raises(UserError, match=r"latency_ms cannot .* tensorrt, as no TensorRT"):
        check_timing(("quality", "latency_ms"), uninstalled.name, why)


def test_a_file_that_is_none_is_the_users_to_mend(uninstalled: TensorRT, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file"):
        ArithmeticOpener(1)(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"this is no model")
    with pytest.raises(UserError, match="cannot load"):
        uninstalled.load(tmp_path / "broken.onnx")


def test_scales_are_those_of_the_simulation(target: TensorRT, tmp_path: Path) -> None:
    compressed = made("mobilenet")
    target.lower(compressed, data_for("mobilenet"), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    graph = Graph.of(model)
    nodes = {node.name: node for node in graph.nodes if node.name}
    for name, facts in describe(compressed.module).items():
        back = graph.producer(nodes[name].input[0])
        assert back is not None
        assert stored[back.input[1]] == pytest.approx(facts.scale)
        assert facts.zero_point == 128
