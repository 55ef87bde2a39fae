"""What the record calls int8 is an integer operator of XNNPACK, with the simulation's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("executorch")

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.targets.executorch import lower as lowering
from evaluation.targets.executorch.target import Executorch
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
