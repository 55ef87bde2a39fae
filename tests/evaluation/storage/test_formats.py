"""Every number format, granularity and sparsity is stored, and answers as its simulation does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper

from compressors.policies.legality import refusal
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize, Sparsify
from compressors.quantization.layers import LayerQuantization
from compressors.record import CompressedModel
from compressors.stack import Stack
from evaluation.lowering.graph import Graph, to_model
from evaluation.target import Artifact
from evaluation.targets.ort_cpu.session import Session
from evaluation.targets.storage.rounding import Rounding
from evaluation.targets.storage.storage import Storage
from tests.compressors.architectures import build, data_for
from tests.compressors.quantization.helpers import every_float

WEIGHTS = (
    Quantize(4, None),
    Quantize(16, None),
    Quantize(3, None, granularity="group", group=7),
    Quantize(1, None, function="asymmetric"),
    Quantize(5, None, function="asymmetric", granularity="tensor"),
    Quantize(4, None, function="kmeans", granularity="tensor"),
    Quantize(2, None, function="kmeans", granularity="group", group=16),
    Quantize(2, None, function="ternary"),
    Quantize(1, None, function="binary", granularity="group", group=9),
    Quantize(4, None, function="log"),
    Quantize(8, None, function="e4m3"),
    Quantize(8, None, function="e5m2", granularity="tensor"),
)
INPUTS = (
    Quantize(8, 8),
    Quantize(None, 4),
    Quantize(8, 8, dynamic=True),
    Quantize(8, 8, dynamic=True, by_row=True),
    Quantize(2, 6, dynamic=True, function="ternary"),
    Quantize(4, 8, smooth=0.5),
    Quantize(8, 8, function="e4m3", inputs="e4m3"),
    Quantize(8, 8, function="e4m3", granularity="tensor", inputs="e4m3", smooth=0.5),
    Quantize(None, 8, inputs="e4m3"),
)
ZEROS = (None, Sparsify(pattern="2:4"), Sparsify(0.8))
STACKS: dict[str, Stack] = {}


def compressed(name: str, step: Quantize | None, zeros: Sparsify | None) -> CompressedModel:
    """All layers that can take the step have it."""
    if name not in STACKS:
        STACKS[name] = Stack(build(name), data_for(name))
    stack = STACKS[name]
    entries = []
    for layer in stack.structure.layers:
        able = step and not refusal("quantize", step, layer.name, stack.structure)
        entries.append(LayerPolicy(layer.name, quantize=step if able else None, sparsify=zeros))
    return stack.apply(Policy(layers=tuple(entries)))


def stored(model: CompressedModel, name: str, tmp_path: Path) -> tuple[Artifact, torch.Tensor]:
    """The file, and of every answer how far it is off, as a share of the largest answer."""
    data, target = data_for(name), Storage(cache_dir=str(tmp_path))
    artifact = target.lower(model, data, tmp_path / "m.safetensors")
    args = next(iter(data.batches("test"))).args
    with torch.no_grad():
        simulated = model.module.eval()(*args)
    assert torch.isfinite(simulated).all()
    return artifact, (target.load(artifact.path)(*args) - simulated).abs() / simulated.abs().max()


@pytest.mark.parametrize("name", ["decoder", "tied", "conv1d"])
@pytest.mark.parametrize("step", WEIGHTS, ids=lambda s: f"{s.function}{s.weights}{s.granularity}")
def test_weights_of_every_format(name: str, step: Quantize, tmp_path: Path) -> None:
    for zeros in ZEROS:
        _, off = stored(compressed(name, step, zeros), name, tmp_path)
        assert off.max() < 1e-5, zeros


@pytest.mark.parametrize("name", ["plain", "own_attention"])
@pytest.mark.parametrize("step", INPUTS, ids=lambda s: f"w{s.weights}a{s.activations}")
def test_rounded_inputs_of_every_kind(name: str, step: Quantize, tmp_path: Path) -> None:
    """A last bit may tip an input over half a step; most answers must be equal."""
    _, off = stored(compressed(name, step, None), name, tmp_path)
    assert off.median() < 1e-5
    assert off.mean() < 0.02


def test_eight_bit_floats_in_plain_operators_are_those_that_torch_casts_to() -> None:
    scale = 0.0123
    facts = LayerQuantization(
        None, None, None, activation_bits=8, scale=scale, zero_point=0, inputs="e4m3"
    )
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy"]
    node = helper.make_node("Neg", ["x"], ["y"])
    graph = Graph([node], {}, ends[:1], ends[1:])
    node.input[0] = Rounding(graph).of(node, facts)
    session = Session(to_model(graph).SerializeToString(), threads=1)
    x = every_float() * scale
    units = (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    assert torch.equal(-session.predict(x), units.float() * scale)


def bytes_of(step: Quantize | None, zeros: Sparsify | None, tmp_path: Path) -> int:
    model = compressed("wide", step, zeros)
    return stored(model, "wide", tmp_path)[0].size_bytes


WEIGHT_COUNT = 64 * 96 + 96 * 64


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two linear layers without biases, 64 to 96 to 64 and a mean."""
    from tests.compressors import architectures

    def made() -> torch.nn.Module:
        first, second = torch.nn.Linear(64, 96, bias=False), torch.nn.Linear(96, 64, bias=False)
        return torch.nn.Sequential(torch.nn.Flatten(2), first, torch.nn.ReLU(), second)

    monkeypatch.setitem(architectures.ARCHITECTURES, "wide", made)


Computed = Callable[[int, int], float]  # weights, rows -> bytes


@pytest.mark.parametrize(
    ("step", "zeros", "computed"),
    [
        (None, None, lambda weights, rows: weights * 4),
        (Quantize(4, None), None, lambda weights, rows: weights / 2 + rows * 4),
        (Quantize(3, None), None, lambda weights, rows: weights * 3 / 8 + rows * 4),
        (
            Quantize(5, None, function="asymmetric"),
            None,
            lambda weights, rows: weights * 5 / 8 + rows * (4 + 5 / 8),
        ),
        (
            Quantize(4, None, function="kmeans", granularity="tensor"),
            None,
            lambda weights, rows: weights / 2 + 2 * (1 + 16) * 4,
        ),
        (
            Quantize(1, None, function="binary", granularity="group", group=32),
            None,
            lambda weights, rows: weights / 8 + weights / 32 * 4,
        ),
        (Quantize(8, None, function="e4m3"), None, lambda weights, rows: weights + rows * 4),
        (None, Sparsify(pattern="2:4"), lambda weights, rows: weights / 8 + weights / 2 * 4),
        (
            Quantize(4, None),
            Sparsify(pattern="2:4"),
            lambda weights, rows: weights / 8 + weights / 2 / 2 + rows * 4,
        ),
    ],
)
@pytest.mark.usefixtures("wide")
def test_a_file_is_as_large_as_its_bits(
    step: Quantize | None, zeros: Sparsify | None, computed: Computed, tmp_path: Path
) -> None:
    """And no more than a graph and a line for each weight."""
    beyond = bytes_of(step, zeros, tmp_path) - computed(WEIGHT_COUNT, 96 + 64)
    assert -100 < beyond < 1000


def test_a_model_of_half_precision_takes_half_the_room(tmp_path: Path) -> None:
    sizes = []
    for dtype in (torch.float32, torch.bfloat16):
        stack = Stack(build("resnet", dtype), data_for("resnet", dtype))
        data, target = data_for("resnet", dtype), Storage(cache_dir=str(tmp_path))
        sizes.append(target.lower(stack.apply(Policy()), data, tmp_path / "m").size_bytes)
    parameters = sum(p.numel() for p in build("resnet").parameters())
    assert sizes[0] - sizes[1] > 1.6 * parameters
