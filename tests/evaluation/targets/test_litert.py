"""What .tflite files hold: integer kernels where the record says so, the simulation's integers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel, Record
from compressors.stack import apply
from evaluation.targets.litert.opener import LiteRtOpener
from evaluation.targets.litert.target import LiteRt
from evaluation.tasks.resnet import ResNet20
from tests.compressors.architectures import build, data_for, example_for
from tests.evaluation.test_integer_kernels import Given, Relu6Net, Split2, Tokens, seeded
from tests.evaluation.tiny import LAYERS, TinyTask

INT8 = Quantize(8, 8)
KERNELS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
CODES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
Task = Given | TinyTask


class Read:
    """A file, read with the runtime's own schema: what is told of it here is told by the bytes."""

    def __init__(self, path: Path) -> None:
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        self._model, self._graph = model, model.subgraphs[0]
        self.codes = [CODES[model.operatorCodes[o.opcodeIndex].builtinCode] for o in self.operators]
        self.counts = Counter(self.codes)

    @property
    def operators(self) -> list[Any]:
        return list(self._graph.operators)

    def tensor(self, index: int) -> Any:
        return self._graph.tensors[index]

    def types(self, operator: Any) -> tuple[int, ...]:
        """The types of input, weights and output."""
        indices = (*operator.inputs[:2], operator.outputs[0])
        return tuple(self.tensor(index).type for index in indices)

    def layers(self) -> dict[str, Any]:
        """The kernels by the layer that they are."""
        pairs = zip(self.codes, self.operators, strict=True)
        return {self.tensor(o.outputs[0]).name.decode(): o for code, o in pairs if code in KERNELS}

    def integer_layers(self) -> set[str]:
        kind = schema.TensorType.INT8
        return {name for name, o in self.layers().items() if self.types(o) == (kind,) * 3}

    def constants(self) -> list[Any]:
        return [t for t in self._graph.tensors if self._model.buffers[t.buffer].data is not None]

    def values(self, index: int) -> Any:
        tensor = self.tensor(index)
        raw = np.asarray(self._model.buffers[tensor.buffer].data, np.uint8)
        dtype = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}[tensor.type]
        return raw.view(dtype).reshape(tensor.shape)


def lowered(
    task: Task, path: Path, *, layers: tuple[str, ...] | None = None, **steps: Any
) -> CompressedModel:
    model = task.model()
    kinds = (nn.Linear, nn.Conv2d, nn.Conv1d)
    names = layers or [name for name, module in model.named_modules() if isinstance(module, kinds)]
    steps = {"quantize": INT8, **steps}
    entries = tuple(LayerPolicy(name, **steps) for name in names)
    compressed = apply(model, Policy(layers=entries), task)
    LiteRt(cache_dir=str(path.parent)).lower(compressed, task, path)
    return compressed


def departure(compressed: CompressedModel, path: Path, inputs: Tensor) -> float:
    """The largest difference from the simulation, as a share of the outputs' range."""
    with torch.no_grad():
        simulated = compressed.module.eval()(inputs).float()
    exported = torch.from_numpy(LiteRtOpener(1)(path).run(inputs.numpy()))
    assert exported.shape == simulated.shape
    return float((exported - simulated).abs().max() / simulated.abs().max())


def delegated(path: Path) -> bool:
    """Whether XNNPACK took every operator: then only its own is executed."""
    interpreter = LiteRtOpener(1)(path).interpreter
    details = interpreter._get_ops_details()
    taken = [d for d in details if d["op_name"] == "DELEGATE"]
    return len(taken) == 1 and bool(details[-1]["op_name"] == "DELEGATE")


def test_resnet20_is_integers_from_end_to_end(tmp_path: Path) -> None:
    given = Given(seeded(ResNet20), (1, 32, 32))
    given.inputs = given.inputs[:16]
    path = tmp_path / "m.tflite"
    compressed = lowered(given, path)
    read = Read(path)
    assert read.integer_layers() == {x.name for x in compressed.record.layers}
    counts = read.counts
    assert counts == {
        "QUANTIZE": 1,
        "RESHAPE": 2,
        "CONV_2D": 21,
        "ADD": 9,
        "PAD": 2,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "DEQUANTIZE": 1,
    }
    assert delegated(path)
    assert departure(compressed, path, given.inputs) < 0.03
    assert path.stat().st_size < 310_000


@pytest.mark.parametrize("chosen", [LAYERS[:1], LAYERS[1:3], LAYERS[::2], LAYERS[3:], LAYERS[4:]])
def test_integer_and_float_layers_side_by_side(chosen: tuple[str, ...], tmp_path: Path) -> None:
    task = TinyTask()
    path = tmp_path / "m.tflite"
    compressed = lowered(task, path, layers=chosen)
    read = Read(path)
    assert read.integer_layers() == set(chosen)
    assert set(read.layers()) == set(LAYERS)
    assert delegated(path)
    inputs = next(iter(task.batches("test"))).args[0]
    assert departure(compressed, path, inputs) < 0.03


FORMS = {  # types of input, weights and output of each layer's kernel
    "dynamic": (Quantize(8, 8, dynamic=True), ("FLOAT32", "INT8", "FLOAT32")),
    "weights": (Quantize(8, None), ("FLOAT32", "FLOAT32", "FLOAT32")),
    "halves": (Quantize(4, 8), ("INT8", "INT4", "INT8")),
    "dynamic halves": (Quantize(4, 8, dynamic=True), ("FLOAT32", "INT4", "FLOAT32")),
}


class Dense(nn.Sequential):
    """Linear layers alone, of odd numbers of features too."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(33, 41), nn.ReLU(), nn.Linear(41, 64), nn.Linear(64, 5))


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_integer_weights(form: str, tmp_path: Path) -> None:
    step, types = FORMS[form]
    path = tmp_path / "m.tflite"
    given = Given(seeded(Dense), (33,))
    compressed = lowered(given, path, quantize=step)
    read = Read(path)
    expected = [tuple(getattr(schema.TensorType, name) for name in types)] * 3
    if form == "halves":  # rows of 33 and 41 fill no whole bytes
        expected[:2] = [(schema.TensorType.INT8,) * 3] * 2
    assert [read.types(o) for o in read.layers().values()] == expected
    assert read.counts["DEQUANTIZE"] == {"weights": 3, "halves": 1}.get(form, 0)
    assert delegated(path)
    single = given.inputs[:1]
    exact = 1e-5 if form == "weights" else 0.03
    assert departure(compressed, path, single) < exact
    assert departure(compressed, path, given.inputs) < max(exact, LiteRt.tolerance * (step.dynamic))


@pytest.mark.parametrize("step", [Quantize(8, 8, dynamic=True), Quantize(8, None)])
def test_convolutions_with_float_inputs_keep_8_bit_weights(step: Quantize, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    given = Given(seeded(Relu6Net), (3, 8, 8))
    compressed = lowered(given, path, quantize=step)
    stored = [t for t in Read(path).constants() if t.type == schema.TensorType.INT8]
    assert len(stored) == 3
    assert departure(compressed, path, given.inputs[:4]) < (0.04 if step.dynamic else 1e-5)


MODELS = [(Relu6Net, (3, 8, 8), 3), (Tokens, (6, 24), 2), (Split2, (1, 10, 10), 3)]


@pytest.mark.parametrize(("made", "shape", "layers"), MODELS)
def test_other_architectures(
    made: type[nn.Module], shape: tuple[int, ...], layers: int, tmp_path: Path
) -> None:
    given = Given(seeded(made), shape)
    path = tmp_path / "m.tflite"
    compressed = lowered(given, path)
    assert len(Read(path).integer_layers()) == layers
    assert departure(compressed, path, given.inputs) < 0.04


FAMILIES = ("plain", "mobilenet", "densenet", "resnext", "conv1d", "own_attention", "transformer")


@pytest.mark.parametrize("name", [*FAMILIES, "tied", "decoder"])
def test_float_models_answer_as_torch_does(name: str, tmp_path: Path) -> None:
    plain = CompressedModel(build(name), Record("", 0, ()), example_for(name))
    data = data_for(name, torch.float32)
    path = tmp_path / "m.tflite"
    LiteRt(cache_dir=str(tmp_path)).lower(plain, data, path)
    assert departure(plain, path, next(iter(data.batches("test"))).args[0]) < 1e-5


def test_between_convolutions_nothing_is_transposed(tmp_path: Path) -> None:
    plain = CompressedModel(build("mobilenet"), Record("", 0, ()), example_for("mobilenet"))
    path = tmp_path / "m.tflite"
    data = data_for("mobilenet", torch.float32)
    LiteRt(cache_dir=str(tmp_path)).lower(plain, data, path)
    assert Read(path).counts["TRANSPOSE"] == 1, "the input, of two channels, alone is turned"


def test_both_halves_of_a_factorised_layer_are_integers(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    compressed = lowered(TinyTask(), path, layers=("block.two", "fc"), lowrank=LowRank(0.25))
    halves = {x.name for x in compressed.record.layers if x.compute_bits == 8}
    assert len(halves) > 2
    assert Read(path).integer_layers() == halves


def test_integers_in_the_file_are_those_of_the_simulation(tmp_path: Path) -> None:
    """Read back from the file; where a batch norm's factor is negative the sign turns."""
    path = tmp_path / "m.tflite"
    compressed = lowered(TinyTask(), path)
    read = Read(path)
    signs = {"block.one": "block.norm1", "block.two": "block.norm2", "down": "norm"}
    turned = 0
    for name, facts in describe(compressed.module).items():
        operator = read.layers()[name]
        source, weight, bias = operator.inputs
        written = torch.from_numpy(read.values(weight).copy())
        assert facts.weight_integers is not None
        assert facts.weight_scales is not None
        expected = facts.weight_integers
        if name in signs:
            norm = compressed.module.get_submodule(signs[name])
            assert isinstance(norm, nn.BatchNorm2d)
            sign = norm.weight.sign().to(torch.int8)
            turned += int((sign < 0).sum())
            expected = expected * sign.view(-1, 1, 1, 1)
        if expected.dim() == 4:
            expected = expected.permute(0, 2, 3, 1)
        assert torch.equal(written, expected)
        grid = read.tensor(source).quantization
        assert facts.zero_point is not None
        assert grid.scale[0] == np.float32(facts.scale)
        assert grid.zeroPoint[0] == facts.zero_point - 128
        units = read.tensor(weight).quantization.scale * grid.scale[0]
        assert np.allclose(read.tensor(bias).quantization.scale, units, rtol=1e-6)
    assert turned > 0


def test_a_number_of_samples_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    given = Given(build("transformer"), (2, 8, 8))
    lowered(given, path)
    runner = LiteRtOpener(1)(path)
    images = given.inputs.numpy()
    together = runner.run(images)
    runner.call(3)()
    apart = np.concatenate([runner.run(images[:5]), runner.run(images[5:])])
    assert np.allclose(together, apart, atol=1e-5)


class Sines(nn.Module):
    """What LiteRT has no kernel for here."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def test_an_operator_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    plain = CompressedModel(Sines(), Record("", 0, ()), (torch.zeros(1, 4),))
    with pytest.raises(UserError, match="operator Sin"):
        LiteRt(cache_dir=str(tmp_path)).lower(plain, TinyTask(), tmp_path / "m.tflite")
    assert not (tmp_path / "m.tflite").exists()


def test_a_file_that_was_cut_short_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    lowered(TinyTask(), path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot load"):
            LiteRtOpener(1)(path)
