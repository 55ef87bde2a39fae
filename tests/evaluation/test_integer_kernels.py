"""What the record calls int8 runs as an integer kernel, and answers as its simulation does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from compressors.data import Batch, Split
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Quantize
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.targets.ort_cpu.session import open_file
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.tasks.resnet import ResNet20
from tests.evaluation.tiny import LAYERS, TinyTask

INTEGER = {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
INT8 = Quantize(8, 8)


class Given:
    """A model and inputs of its shape."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(64, *shape, generator=generator)
        self._model = model

    def model(self) -> nn.Module:
        return self._model.eval()

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> Iterable[Batch]:
        yield Batch(self.inputs, torch.zeros(64, dtype=torch.long))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()


def seeded(build: type[nn.Module] | nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build() if isinstance(build, type) else build


def optimised(path: Path, tmp_path: Path) -> Counter[str]:
    dump = tmp_path / "optimised.onnx"
    open_file(path, 1, dump=dump)
    return Counter(node.op_type for node in onnx.load(dump).graph.node)


def lowered(
    given: Given | TinyTask, path: Path, *, layers: Iterable[str] | None = None, **steps: LowRank
) -> CompressedModel:
    model = given.model()
    kinds = (nn.Linear, nn.Conv2d)
    names = layers or [name for name, module in model.named_modules() if isinstance(module, kinds)]
    entries = tuple(LayerPolicy(name, quantize=INT8, **steps) for name in names)
    compressed = apply(model, Policy(layers=entries), given)
    OrtCpu(cache_dir=str(path.parent)).lower(compressed, given, path)
    return compressed


def departure(compressed: CompressedModel, path: Path, inputs: Tensor) -> float:
    """The largest difference from the simulation, as a share of the outputs' range."""
    with torch.no_grad():
        simulated = compressed.module.eval()(inputs)
    exported = open_file(path, 1).predict(inputs)
    return float((exported - simulated).abs().max() / simulated.abs().max())


def test_resnet20_is_integers_from_end_to_end(tmp_path: Path) -> None:
    given = Given(seeded(ResNet20), (1, 32, 32))
    path = tmp_path / "m.onnx"
    compressed = lowered(given, path)
    ops = optimised(path, tmp_path)
    assert ops.pop("QLinearConv") == 21
    assert ops.pop("QLinearAdd") == 9
    assert ops.pop("QLinearGlobalAveragePool") == 1
    assert ops.pop("QGemm") == 1
    assert ops.pop("QuantizeLinear") == 1
    assert set(ops) <= {"Transpose", "Flatten"}, "no float operator is left"
    assert departure(compressed, path, given.inputs) < 0.03
    assert path.stat().st_size < 290_000


@pytest.mark.parametrize("chosen", [LAYERS[:1], LAYERS[1:3], LAYERS[::2], LAYERS[3:], LAYERS[4:]])
def test_integer_and_float_layers_side_by_side(chosen: tuple[str, ...], tmp_path: Path) -> None:
    task = TinyTask()
    path = tmp_path / "m.onnx"
    compressed = lowered(task, path, layers=chosen)
    ops = optimised(path, tmp_path)
    assert sum(ops[op] for op in INTEGER) == len(chosen)
    assert ops["Conv"] + ops["FusedConv"] + ops["Gemm"] == len(LAYERS) - len(chosen)
    inputs = next(iter(task.batches("test"))).args[0]
    assert departure(compressed, path, inputs) < 0.03


class Relu6Net(nn.Module):
    """Depthwise convolution, ReLU6, average pooling, a linear layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.relu = nn.ReLU6()
        self.fc = nn.Linear(16 * 16, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)) * 4)
        x = nn.functional.avg_pool2d(self.relu(self.depthwise(x)), 2)
        scores: Tensor = self.fc(x.flatten(1))
        return scores


class Tokens(nn.Module):
    """Linear layers on three dimensions, with and without bias, with a norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 32)
        self.norm = nn.LayerNorm(32)
        self.second = nn.Linear(32, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.gelu(self.norm(self.first(x))))


class Split2(nn.Module):
    """A tensor that is an output of a layer, read by two layers, and part of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3)
        self.left = nn.Conv2d(8, 8, 3)
        self.right = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.left(x) - self.right(torch.relu(x)) + x[:, :, 2:, 2:]


MODELS = [(Relu6Net, (3, 8, 8), 3), (Tokens, (6, 24), 2), (Split2, (1, 10, 10), 3)]


@pytest.mark.parametrize(("build", "shape", "layers"), MODELS)
def test_other_architectures(
    build: type[nn.Module], shape: tuple[int, ...], layers: int, tmp_path: Path
) -> None:
    given = Given(seeded(build), shape)
    path = tmp_path / "m.onnx"
    compressed = lowered(given, path)
    ops = optimised(path, tmp_path)
    assert sum(ops[op] for op in INTEGER) == layers, ops
    assert departure(compressed, path, given.inputs) < 0.04


def test_both_halves_of_a_factorised_layer_are_integers(tmp_path: Path) -> None:
    task = TinyTask()
    path = tmp_path / "m.onnx"
    compressed = lowered(task, path, layers=["block.two", "fc"], lowrank=LowRank(0.25))
    halves = [x for x in compressed.record.layers if x.weight_bits == 8]
    assert len(halves) > 2
    ops = optimised(path, tmp_path)
    assert sum(ops[op] for op in INTEGER) == len(halves)


def test_integers_in_the_file_are_those_of_the_simulation(tmp_path: Path) -> None:
    """Read back from the file; where a batch norm's factor is negative the sign turns."""
    from compressors.quantization.layers import describe

    path = tmp_path / "m.onnx"
    compressed = lowered(TinyTask(), path)
    model = onnx.load(path)
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    sources = {n.output[0]: n.input[0] for n in model.graph.node if "Dequantize" in n.op_type}
    nodes = {node.name: node for node in model.graph.node if node.name}
    signs = {"block.one": "block.norm1", "block.two": "block.norm2", "down": "norm"}
    turned = 0
    for name, facts in describe(compressed.module).items():
        assert facts.weight_integers is not None
        written = torch.from_numpy(stored[sources[nodes[name].input[1]]].copy())
        expected = facts.weight_integers
        if name in signs:
            sign = compressed.module.get_submodule(signs[name]).weight.sign().to(torch.int8)
            turned += int((sign < 0).sum())
            expected = expected * sign.view(-1, 1, 1, 1)
        assert torch.equal(written, expected)
    assert turned > 0


def test_a_dead_channel_with_a_bias_keeps_its_bias(tmp_path: Path) -> None:
    model = seeded(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[0].bias[1] = 3.0
    given = Given(model, (1, 8, 8))
    path = tmp_path / "m.onnx"
    compressed = lowered(given, path)
    assert departure(compressed, path, given.inputs) < 0.02
