"""What the record calls int8 is an integer operator of XNNPACK, with the simulation's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("executorch")

from compressors.data import Batch, Split
from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.target import Precision
from evaluation.targets.executorch import lower as lowering
from evaluation.targets.executorch.session import FIXED_BATCH
from evaluation.targets.executorch.target import Executorch
from evaluation.targets.executorch.traced import LARGEST
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What XNNPACK is given, as its serialiser sees it."""
    from executorch.backends.xnnpack import xnnpack_preprocess  # type: ignore[import-untyped]

    seen: list[Any] = []
    serialise = xnnpack_preprocess.serialize_xnnpack_binary

    def see(graph: Any, data: bytearray) -> bytes:
        seen.append(graph)
        written: bytes = serialise(graph, data)
        return written

    monkeypatch.setattr(xnnpack_preprocess, "serialize_xnnpack_binary", see)
    return seen


def compressed(*layers: str) -> CompressedModel:
    entries = tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in layers)
    return apply(TASK.model(), Policy(layers=entries), TASK)


def target(tmp_path: Path) -> Executorch:
    return Executorch(cache_dir=str(tmp_path / "cache"))


def integer_nodes(graphs: list[Any]) -> Counter[str]:
    """The operators whose input, weights and result are integers, by sort; float ones as such."""
    found: Counter[str] = Counter()
    for graph in graphs:
        types = {}
        for value in graph.xvalues:
            union = value.xvalue_union
            tensor = getattr(union, "tensor_value", union)
            types[tensor.id_out] = tensor.datatype.name
        for node in graph.xnodes:
            union = node.xnode_union
            if not hasattr(union, "filter_id"):
                continue
            names = [types[union.input1_id], types[union.filter_id], types[union.output_id]]
            integers = names == ["xnn_datatype_qint8", "xnn_datatype_qcint8", "xnn_datatype_qint8"]
            found[f"{type(union).__name__} {'int8' if integers else 'float'}"] += 1
    return found


@pytest.mark.parametrize("chosen", [LAYERS, LAYERS[1:3]])
def test_int8_layers_are_integer_operators_of_xnnpack(
    chosen: tuple[str, ...], graphs: list[Any], tmp_path: Path
) -> None:
    model = compressed(*chosen)
    named = {layer.name for layer in model.record.layers if layer.compute_bits == 8}
    assert named == set(chosen)
    artifact = target(tmp_path).lower(model, TASK, tmp_path / "m.pte")
    nodes = integer_nodes(graphs)
    assert sum(count for sort, count in nodes.items() if sort.endswith("int8")) == len(chosen)
    assert sum(nodes.values()) == len(LAYERS)
    predict = target(tmp_path).load(artifact.path)
    inputs = next(iter(TASK.batches("test"))).args[0]
    with torch.no_grad():
        simulated = model.module.eval()(inputs)
    assert (predict(inputs) - simulated).abs().max() < 0.03 * simulated.abs().max()


def test_integers_are_those_of_the_simulation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where a batch norm's factor is negative the sign turns."""
    seen = {}
    check = lowering._check

    def see(program: Any, layers: dict[str, str]) -> None:
        for delegate in lowering.delegates(program):
            for name in lowering.integer_weights(delegate):
                seen[layers[name]] = delegate.state_dict[name]
        check(program, layers)

    monkeypatch.setattr(lowering, "_check", see)
    model = compressed(*LAYERS)
    target(tmp_path).lower(model, TASK, tmp_path / "m.pte")
    assert set(seen) == set(LAYERS)
    signs = {"block.one": "block.norm1", "block.two": "block.norm2", "down": "norm"}
    turned = 0
    for name, facts in describe(model.module).items():
        expected = facts.weight_integers
        assert expected is not None
        if name in signs:
            weight = model.module.get_parameter(f"{signs[name]}.weight")
            sign = weight.sign().to(torch.int8)
            turned += int((sign < 0).sum())
            expected = expected * sign.view(-1, 1, 1, 1)
        assert torch.equal(seen[name], expected)
    assert turned > 0


class Rows:
    """Two linear layers with a batch norm between, of which some factors are negative."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            norm = nn.BatchNorm1d(24)
            nn.init.normal_(norm.weight)
            layers = nn.Linear(self.inputs, 24), norm, nn.ReLU(), nn.Linear(24, 10)
            return nn.Sequential(*layers).eval()

    def batches(
        self, split: Split, *, batch_size: int | None = None, seed: int | None = None
    ) -> list[Batch]:
        inputs = torch.randn(8, self.inputs, generator=torch.Generator().manual_seed(1))
        return [Batch(inputs, torch.arange(8), torch.arange(8))]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


GROUPS = {"granularity": "group", "group": 32}
DYNAMIC = [
    (Quantize(8, 8, dynamic=True), "qcint8", 1e-6),
    (Quantize(4, 8, dynamic=True), "qcint4", 1e-6),
    (Quantize(4, 8, dynamic=True, **GROUPS), "qbint4", 3e-3),  # scales in half precision
]


@pytest.mark.parametrize(("step", "weights", "exact"), DYNAMIC, ids=lambda value: str(value)[:6])
def test_a_row_alone_is_rounded_as_it_is_simulated(
    step: Quantize, weights: str, exact: float, graphs: list[Any], tmp_path: Path
) -> None:
    data, made = Rows(64), target(tmp_path)
    model = apply(data.model(), Policy(layers=(LayerPolicy("0", quantize=step),)), data)
    predict = made.load(made.lower(model, data, tmp_path / "m.pte").path)
    assert linear_types(graphs) == [("qdint8", weights, "fp32"), ("fp32", "fp32", "fp32")]
    (inputs,) = data.batches("test")[0].args
    with torch.no_grad():
        simulated = torch.cat([model.module(row[None]) for row in inputs])
    assert departure(predict(inputs), simulated) < exact
    assert departure(predict(inputs), model.module(inputs)) < made.tolerance


def linear_types(graphs: list[Any]) -> list[tuple[str, ...]]:
    """The types of input, weights and result of what XNNPACK runs as a linear layer."""
    found = []
    for graph in graphs:
        types = {}
        for value in graph.xvalues:
            union = value.xvalue_union
            tensor = getattr(union, "tensor_value", union)
            types[tensor.id_out] = tensor.datatype.name.removeprefix("xnn_datatype_")
        unions = [node.xnode_union for node in graph.xnodes]
        layers = [union for union in unions if hasattr(union, "filter_id")]
        found += [tuple(types[n] for n in (u.input1_id, u.filter_id, u.output_id)) for u in layers]
    return found


def departure(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def test_groups_that_do_not_fit_a_layer_are_refused_in_a_sentence(tmp_path: Path) -> None:
    data, step = Rows(40), Quantize(4, 8, dynamic=True, **GROUPS)
    model = apply(data.model(), Policy(layers=(LayerPolicy("0", quantize=step),)), data)
    with pytest.raises(UserError, match="groups of 32 in layer '0', whose 40 inputs"):
        target(tmp_path).lower(model, data, tmp_path / "m.pte")


def test_few_bits_are_for_dynamic_linear_layers() -> None:
    table = Executorch.capability
    layer = apply(Rows(64).model(), Policy(), Rows(64)).record.layers[0]
    halves = replace(layer, weight_bits=4, activation_bits=8, dynamic=True)
    assert table.refusal(halves) is None
    assert "valid: dynamic true" in str(table.refusal(replace(halves, dynamic=False)))
    assert table.refusal(replace(halves, activation_bits=None)) is not None
    assert table.refusal(replace(halves, granularity="group24")) is not None
    assert "dynamic false" in str(table.refusal(replace(halves, kind="conv2d", weight_bits=8)))
    assert Precision(4, 8) not in table.offered("linear")


class Counted(nn.Linear):
    """A layer whose trace holds for one batch size alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + float(len(x) > LARGEST // 2)


def test_a_model_that_takes_one_batch_size_alone_is_written_for_it(tmp_path: Path) -> None:
    data, made = Rows(24), target(tmp_path)
    (inputs,) = data.batches("test")[0].args
    with torch.random.fork_rng():
        layer = Counted(24, 4).eval()
    model = CompressedModel(layer, apply(data.model(), Policy(), data).record, (inputs[:1],))
    written, _ = lowering.lower(model, data, 1)
    assert FIXED_BATCH.encode() in written
    (tmp_path / "m.pte").write_bytes(written)
    with torch.no_grad():
        assert departure(made.load(tmp_path / "m.pte")(inputs), layer(inputs)) < 1e-5


def test_a_layer_that_was_not_taken_over_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lowering, "integer_weights", lambda program: set())
    with pytest.raises(UserError, match="no integer kernel for 'down'"):
        target(tmp_path).lower(compressed("down"), TASK, tmp_path / "m.pte")
    assert not (tmp_path / "m.pte").exists()


def test_more_samples_than_a_call_takes_are_run_in_pieces(tmp_path: Path) -> None:
    artifact = target(tmp_path).lower(compressed(), TASK, tmp_path / "m.pte")
    inputs = torch.randn(70, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = TASK.model()(inputs)
    got = target(tmp_path).load(artifact.path)(inputs)
    assert torch.allclose(got, expected, atol=1e-4)


def test_a_broken_file_is_told_in_one_sentence_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "broken.pte"
    path.write_bytes(b"this is no model")
    code = (
        "from pathlib import Path\n"
        "from compressors.errors import UserError\n"
        "from evaluation.targets.executorch.session import ExecutorchOpener\n"
        "try:\n"
        f"    ExecutorchOpener(1)(Path({str(path)!r}))\n"
        "except UserError as error:\n"
        "    import json; print(json.dumps(str(error)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot load" in json.loads(run.stdout)
    assert run.stderr == ""


def test_inputs_whose_outliers_moved_into_the_weights_are_divided(tmp_path: Path) -> None:
    step = Quantize(8, 8, smooth=0.6)
    model = apply(TASK.model(), Policy(layers=(LayerPolicy("fc", quantize=step),)), TASK)
    assert any(facts.smoothing is not None for facts in describe(model.module).values())
    made = target(tmp_path)
    predict = made.load(made.lower(model, TASK, tmp_path / "model.pte").path)
    batch = next(iter(TASK.batches("test")))
    with torch.no_grad():
        simulated = model.module.eval()(*batch.args)
    departure = (predict(*batch.args) - simulated).norm() / simulated.norm()
    assert departure <= made.tolerance
