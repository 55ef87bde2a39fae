"""Every form that a layer takes in a file: the kernel that runs it, what it answers, its bytes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.record import CompressedModel
from compressors.stack import Stack
from evaluation.lowering.graph import Graph, to_model
from evaluation.target import STORED, Artifact
from evaluation.targets.ort_cpu import running
from evaluation.targets.ort_cpu.packing import Pool, Sort
from evaluation.targets.ort_cpu.session import Session
from evaluation.targets.ort_cpu.target import OrtCpu
from tests.compressors.architectures import build, data_for

LINEAR, COMPUTED = ("linear",), ("linear", "conv2d")
SHOWN = ("resnet", "mobilenet", "transformer", "tied")
DYNAMIC = Quantize(8, 8, dynamic=True)


@cache
def stack(name: str) -> Stack:
    return Stack(build(name), data_for(name))


def compressed(name: str, step: Quantize, kinds: tuple[str, ...]) -> CompressedModel:
    """The architecture with a step taken by all layers of these kinds."""
    layers = [layer.name for layer in stack(name).structure.layers if layer.kind in kinds]
    return stack(name).apply(Policy(layers=tuple(LayerPolicy(n, quantize=step) for n in layers)))


def lowered(
    name: str, step: Quantize, kinds: tuple[str, ...], folder: Path, **knobs: Any
) -> tuple[CompressedModel, Artifact, float]:
    """The model, its file, and the file's largest difference as a share of the outputs' range."""
    target = OrtCpu(cache_dir=str(folder), **knobs)
    done = compressed(name, step, kinds)
    artifact = target.lower(done, data_for(name), folder / "m.onnx")
    args = next(iter(data_for(name).batches("test"))).args
    with torch.no_grad():
        simulated = done.module.eval()(*args)
    found = target.load(artifact.path)(*args)
    return done, artifact, float((found - simulated).abs().max() / simulated.abs().max())


INTEGERS = [
    (Quantize(8, 8), COMPUTED, False),
    (DYNAMIC, LINEAR, False),
    (Quantize(8, 8, granularity="tensor", dynamic=True), LINEAR, False),
    (Quantize(3, 8), COMPUTED, True),
    (Quantize(6, 8, dynamic=True), LINEAR, True),
]


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize(("step", "kinds", "stored"), INTEGERS)
def test_what_the_record_calls_int8_runs_as_an_integer_kernel(
    name: str, step: Quantize, kinds: tuple[str, ...], stored: bool, tmp_path: Path
) -> None:
    done, artifact, departure = lowered(name, step, kinds, tmp_path, storage_only=stored)
    kernels = running.kernels(artifact.path)
    called = [layer.name for layer in done.record.layers if layer.compute_bits == 8]
    assert called
    for layer in called:
        assert kernels[layer], layer
        assert set(kernels[layer]) <= running.INTEGER, layer
    others = {layer.name for layer in done.record.layers} - set(called)
    for layer in others & set(kernels):
        assert not set(kernels[layer]) & running.INTEGER, layer
    assert departure < (1e-5 if step.dynamic else 0.07)


def test_a_layer_that_runs_twice_is_found_twice(tmp_path: Path) -> None:
    for step in (Quantize(8, 8), DYNAMIC, Quantize(4, None)):
        _, artifact, _ = lowered("tied", step, LINEAR, tmp_path)
        assert len(running.kernels(artifact.path)["twice"]) == 2


WEIGHTS = [
    Quantize(4, None),
    Quantize(4, None, granularity="tensor"),
    Quantize(4, None, granularity="group", group=16),
    Quantize(4, None, function="asymmetric"),
    Quantize(4, None, function="asymmetric", granularity="group", group=16),
    Quantize(4, None, function="asymmetric", granularity="tensor"),
]


@pytest.mark.parametrize("step", WEIGHTS)
def test_linear_layers_of_four_bit_weights_run_as_they_are_stored(
    step: Quantize, tmp_path: Path
) -> None:
    done, artifact, departure = lowered("own_attention", step, LINEAR, tmp_path)
    kernels = running.kernels(artifact.path)
    assert all(kernels[layer.name] == ["MatMulNBits"] for layer in done.record.layers)
    assert departure < 1e-5


def test_kernels_that_round_inputs_are_for_those_who_ask(tmp_path: Path) -> None:
    step = Quantize(8, None, granularity="group", group=16)
    assert STORED in OrtCpu().capability.simulated(
        compressed("transformer", step, LINEAR).record.layers[-1]
    )
    done, artifact, departure = lowered("transformer", step, LINEAR, tmp_path, round_inputs=True)
    kernels = running.kernels(artifact.path)
    rounding = [layer.name for layer in done.record.layers if layer.weight_bits]
    assert all(kernels[name] == ["MatMulNBits"] for name in rounding)
    assert 1e-4 < departure < OrtCpu(round_inputs=True).tolerance


@pytest.mark.parametrize("group", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("function", ["symmetric", "asymmetric"])
def test_every_group_and_width_that_a_row_may_have(
    group: int, function: str, tmp_path: Path
) -> None:
    """Rows that their groups do not fill, and rows that one group holds."""
    for inputs in (300, 24):
        model = nn.Linear(inputs, 5)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(group)
            model.weight.copy_(torch.randn(5, inputs))
        for bits in (4, 8):
            step = Quantize(bits, None, function=function, granularity="group", group=group)  # type: ignore[arg-type]
            for rounds in (False, True) if bits == 4 else (True,):
                found, simulated = one_layer(model, step, tmp_path, round_inputs=rounds)
                most = 0.02 if rounds else 1e-5
                assert (found - simulated).abs().max() < most * simulated.abs().max()


def one_layer(
    model: nn.Module, step: Quantize, folder: Path, **knobs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the file and the simulation of a model of one layer answer."""
    from tests.evaluation.test_integer_kernels import Given

    whole = nn.Sequential(model)
    samples = Given(whole, (model.in_features,))  # type: ignore[arg-type]
    done = Stack(samples.model(), samples).apply(Policy(layers=(LayerPolicy("0", quantize=step),)))
    target = OrtCpu(cache_dir=str(folder), **knobs)
    path = target.lower(done, samples, folder / "m.onnx").path
    with torch.no_grad():
        return target.load(path)(samples.inputs), done.module(samples.inputs)


EXPANDED = [
    ("resnet", Quantize(3, None)),
    ("resnet", Quantize(5, None, function="asymmetric", granularity="group", group=7)),
    ("decoder", Quantize(4, None, granularity="group", group=6)),
    ("decoder", Quantize(7, None, function="asymmetric", granularity="tensor")),
    ("conv1d", Quantize(6, None)),
    ("tied", Quantize(2, None)),
    ("tied", Quantize(8, None)),
    ("transformer", Quantize(3, None, granularity="group", group=6)),
]


@pytest.mark.parametrize(("name", "step"), EXPANDED)
def test_weights_without_a_kernel_are_stored_packed_and_computed_in_float(
    name: str, step: Quantize, tmp_path: Path
) -> None:
    kinds = (*COMPUTED, "conv1d", "conv_transpose2d", "embedding")
    done, artifact, departure = lowered(name, step, kinds, tmp_path, storage_only=True)
    assert departure < 1e-5
    for operators in running.kernels(artifact.path).values():
        assert set(operators) <= running.FLOAT
    table = OrtCpu(storage_only=True).capability
    assert all(table.simulated(layer) == (STORED,) for layer in done.record.layers)


def test_nothing_is_unpacked_while_the_model_runs(tmp_path: Path) -> None:
    for step in (Quantize(3, 8), Quantize(5, None)):
        _, artifact, _ = lowered("resnet", step, COMPUTED, tmp_path, storage_only=True)
        dump = tmp_path / "optimised.onnx"
        Session(artifact.path, 1, dump=dump)
        left = {node.op_type for node in onnx.load(dump).graph.node}
        assert not left & {"BitShift", "Mod", "Split", "Cast", "Mul", "Sub", "DequantizeLinear"}


@given(st.integers(1, 8), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 99))
def test_codes_come_out_of_their_bytes(bits: int, sizes: list[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    parts = [chance.integers(0, 2**bits, size).astype(np.uint8) for size in sizes]
    graph = Graph([], {}, [], [])
    pool = Pool(graph, Sort(bits))
    names = [pool.add(part) for part in parts]
    graph.nodes = [*pool.write(), helper.make_node("Concat", names, ["y"], axis=0)]
    graph.outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, [None])]
    model = to_model(graph)
    found = Session(model.SerializeToString(), 1).run()
    assert found.tolist() == np.concatenate(parts).tolist()
    packed = sum(numpy_helper.to_array(i).nbytes for i in model.graph.initializer)
    whole = -(-sum(len(part) for part in dict.fromkeys(map(bytes, parts))) // 8) * bits
    assert packed - whole <= 8 * 4 + 8 + 30  # the sizes, where to reshape to, shifts


def test_what_is_stored_only_is_refused_until_it_is_asked_for(tmp_path: Path) -> None:
    done = compressed("resnet", Quantize(3, 8), COMPUTED)
    with pytest.raises(UserError, match=r"w3a8; valid for conv2d: .*target\.storage_only=true"):
        OrtCpu(cache_dir=str(tmp_path)).lower(done, data_for("resnet"), tmp_path / "m.onnx")
    four = compressed("resnet", Quantize(4, 4), COMPUTED)
    with pytest.raises(UserError, match=r"as w4a4; valid for conv2d: [^;]*$"):
        OrtCpu(cache_dir=str(tmp_path)).lower(four, data_for("resnet"), tmp_path / "m.onnx")


def test_dynamic_convolutions_are_refused(tmp_path: Path) -> None:
    done = compressed("resnet", DYNAMIC, COMPUTED)
    with pytest.raises(UserError, match="dynamic activations; valid: dynamic false"):
        OrtCpu(cache_dir=str(tmp_path)).lower(done, data_for("resnet"), tmp_path / "m.onnx")


@pytest.mark.parametrize("knob", ["storage_only", "round_inputs"])
def test_impossible_knobs_are_refused(knob: str) -> None:
    with pytest.raises(UserError, match=f"target.{knob} cannot be 'yes'"):
        OrtCpu(**{knob: "yes"})  # type: ignore[arg-type]
