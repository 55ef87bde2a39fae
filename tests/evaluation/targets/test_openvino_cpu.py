"""OpenVINO's files: what is called int8 runs in integers, packed weights are the simulation's."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.data import Data
from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Function, Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.artifact_parts import parts
from evaluation.target import Artifact
from evaluation.targets.openvino_cpu import target as module
from evaluation.targets.openvino_cpu.target import OpenVinoCpu
from tests.compressors.architectures import build, data_for
from tests.evaluation.test_integer_kernels import Given, seeded
from tests.evaluation.tiny import LAYERS, TinyTask

openvino = pytest.importorskip("openvino")
from evaluation.targets.openvino_cpu.session import OpenVinoOpener, Session  # noqa: E402

INT8 = Quantize(8, 8)
SINGLE = OpenVinoOpener(1, "f32")


def compressed(model: nn.Module, data: Data, steps: dict[str, Quantize]) -> CompressedModel:
    entries = tuple(LayerPolicy(name, quantize=step) for name, step in steps.items())
    return apply(model, Policy(layers=entries), data)


def lowered(model: CompressedModel, data: Data, path: Path) -> Artifact:
    return OpenVinoCpu(cache_dir=str(path.parent)).lower(model, data, path)


def layers_of(model: nn.Module, *kinds: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def kernels(session: Session, batch: int | None = 1) -> dict[str, tuple[str, str]]:
    """Of every layer by name: the precision it reads and its implementation, as executed.

    A bias that is added apart has another node; small linear layers are joined in a subgraph.
    """
    found: dict[str, tuple[str, str]] = {}
    for node in session.compiled(batch).get_runtime_model().get_ordered_ops():
        facts: dict[str, Any] = {k: v.astype(str) for k, v in node.get_rt_info().items()}
        if facts["layerType"] not in ("Convolution", "FullyConnected", "MatMul", "Subgraph"):
            continue
        for name in facts["originalLayersNames"].split(","):
            kernel = facts["runtimePrecision"], facts["primitiveType"]
            layer = re.sub(r"/WithoutBiases.*", "", name)
            if layer != name or facts["layerType"] != "Subgraph":
                found[layer] = kernel
            else:
                found.setdefault(layer, kernel)
    return found


def departure(model: CompressedModel, session: Session, *inputs: Tensor) -> float:
    """The largest difference from the simulation, as a share of the outputs' range."""
    with torch.no_grad():
        simulated = model.module.eval()(*inputs).numpy()
    exported = session.run(*(tensor.numpy() for tensor in inputs))
    assert exported.shape == simulated.shape
    return float(np.abs(exported - simulated).max() / np.abs(simulated).max())


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "transformer"])
def test_layers_recorded_as_int8_run_as_integer_kernels(name: str, tmp_path: Path) -> None:
    model, data = build(name), data_for(name)
    names = layers_of(model, nn.Linear, nn.Conv2d)
    made = compressed(model, data, dict.fromkeys(names, INT8))
    integer = [layer.name for layer in made.record.layers if layer.compute_bits == 8]
    assert len(integer) >= 8
    session = SINGLE(lowered(made, data, tmp_path / "m.xml").path)
    for batch in (1, None):
        ran = kernels(session, batch)
        for layer in integer:
            precision, kernel = ran[layer]
            assert precision in ("u8", "i8"), layer
            assert kernel.endswith("_I8"), layer
    inputs = next(iter(data.batches("test"))).args
    assert departure(made, session, *inputs) < 0.05


@pytest.mark.parametrize("chosen", [LAYERS[1:3], LAYERS[::2], LAYERS[4:]])
def test_layers_left_in_float_are_computed_in_float(
    chosen: tuple[str, ...], tmp_path: Path
) -> None:
    task = TinyTask()
    made = compressed(task.model(), task, dict.fromkeys(chosen, INT8))
    session = SINGLE(lowered(made, task, tmp_path / "m.xml").path)
    ran = kernels(session)
    for layer in LAYERS:
        assert ran[layer][1].endswith("_I8" if layer in chosen else "_f32"), (layer, ran[layer])
    assert departure(made, session, next(iter(task.batches("test"))).args[0]) < 0.02


PACKED = [
    (Quantize(8, None), "i8"),
    (Quantize(4, None), "i4"),
    (Quantize(4, None, granularity="tensor"), "i4"),
    (Quantize(4, None, granularity="group", group=8), "i4"),
    (Quantize(8, None, function="asymmetric", granularity="group", group=8), "u8"),
    (Quantize(4, None, function="asymmetric"), "u4"),
]


@pytest.mark.parametrize(("step", "kept"), PACKED)
def test_packed_weights_stay_packed_and_answer_as_simulated(
    step: Quantize, kept: str, tmp_path: Path
) -> None:
    model = seeded(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 24, bias=False)))
    given = Given(model, (5, 32))
    made = compressed(model, given, {"0": step, "2": step})
    path = tmp_path / "m.xml"
    artifact = lowered(made, given, path)
    session = SINGLE(path)
    ran = kernels(session, None)
    assert {ran["0"][0], ran["2"][0]} == {kept}
    assert departure(made, session, given.inputs) < 1e-5
    codes = 3584 * (step.weights or 0) // 8
    scales = 3584 // (8 if step.granularity == "group" else 32) * 5  # and their zero points
    assert codes <= path.with_suffix(".bin").stat().st_size <= codes + scales + 512
    assert artifact.size_bytes == sum(part.stat().st_size for part in parts(path))


def test_codes_in_the_file_are_those_of_the_simulation(tmp_path: Path) -> None:
    model = seeded(nn.Sequential(nn.Linear(16, 8)))
    given = Given(model, (16,))
    made = compressed(model, given, {"0": Quantize(4, None)})
    lowered(made, given, tmp_path / "m.xml")
    read = openvino.Core().read_model(tmp_path / "m.xml")
    stored = [n for n in read.get_ops() if n.get_output_element_type(0) == openvino.Type.i4]
    integers = describe(made.module)["0"].weight_integers
    assert integers is not None
    low, high = (np.frombuffer(stored[0].data, np.uint8) >> shift & 15 for shift in (0, 4))
    codes = np.stack([low, high], axis=1).reshape(8, 16).astype(np.int8)
    assert np.array_equal(np.where(codes > 7, codes - 16, codes), integers.numpy())


@pytest.mark.parametrize("columns", [33, 30, 7])
def test_rows_of_4_bits_that_end_within_a_byte(columns: int, tmp_path: Path) -> None:
    """OpenVINO's kernel reads them wrongly; they are stored so that it does not."""
    model = seeded(nn.Sequential(nn.Linear(columns, 16), nn.ReLU(), nn.Linear(16, 5)))
    given = Given(model, (columns,))
    made = compressed(model, given, dict.fromkeys(("0", "2"), Quantize(4, None)))
    session = SINGLE(lowered(made, given, tmp_path / "m.xml").path)
    assert departure(made, session, given.inputs) < 1e-5


STORED = [("decoder", 2), ("tied", 3), ("conv1d", 4), ("decoder", 5), ("conv1d", 6), ("tied", 7)]


@pytest.mark.parametrize(("name", "bits"), STORED)
def test_widths_without_a_kernel_are_stored_and_spread_out(
    name: str, bits: int, tmp_path: Path
) -> None:
    model, data = build(name), data_for(name)
    names = layers_of(model, nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
    function: Function = "asymmetric" if bits % 2 else "symmetric"
    made = compressed(model, data, dict.fromkeys(names, Quantize(bits, None, function=function)))
    with pytest.raises(UserError, match="no kernel"):
        lowered(made, data, tmp_path / "m.xml")
    target = OpenVinoCpu(cache_dir=str(tmp_path), storage_only=True)
    session = SINGLE(target.lower(made, data, tmp_path / "m.xml").path)
    assert departure(made, session, *next(iter(data.batches("test"))).args) < 1e-5


def test_widths_and_precisions_have_signatures_of_their_own(tmp_path: Path) -> None:
    model = seeded(nn.Sequential(nn.Linear(16, 8)))
    given = Given(model, (16,))
    steps = [Quantize(8, 8), *(step for step, _ in PACKED)]
    every = [{"0": step} for step in steps] + [{}]
    made = [compressed(model, given, chosen) for chosen in every]
    signatures = {lowered(m, given, tmp_path / "m.xml").signature for m in made}
    assert len(signatures) == len(every)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            Quantize(8, 8, function="asymmetric"),
            "function asymmetric at 8 bits; valid there: symmetric",
        ),
        (Quantize(8, 8, granularity="group", group=8), "granularity group8; valid: channel"),
        (Quantize(8, 8, dynamic=True), "dynamic"),
        (Quantize(3, None), "w3af"),
        (
            Quantize(4, None, granularity="group", group=5),
            "groups of 5; valid: those that divide its 16 inputs",
        ),
    ],
)
def test_what_has_no_kernel_is_refused(step: Quantize, said: str, tmp_path: Path) -> None:
    model = seeded(nn.Sequential(nn.Linear(16, 8)))
    given = Given(model, (16,))
    with pytest.raises(UserError, match=said):
        lowered(compressed(model, given, {"0": step}), given, tmp_path / "m.xml")
    assert not any(tmp_path.glob("m.*"))


def test_weights_that_are_gone_or_cut_short_are_told(tmp_path: Path) -> None:
    given = Given(seeded(nn.Sequential(nn.Linear(16, 8))), (16,))
    xml, weights = parts(
        lowered(compressed(given.model(), given, {}), given, tmp_path / "m.xml").path
    )
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=r"OpenVINO cannot load .*m\.xml"):
        SINGLE(xml)
    weights.unlink()
    with pytest.raises(UserError, match=r"no model file .*m\.bin"):
        SINGLE(xml)


def test_a_precision_that_this_cpu_has_not_is_refused() -> None:
    with pytest.raises(UserError, match="precision_hint cannot be 'fp64'; valid on this CPU: f32"):
        OpenVinoCpu(precision_hint="fp64")


def test_where_kernels_round_what_the_simulation_does_not_files_may_depart_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from evaluation.targets.openvino_cpu import session

    monkeypatch.setattr(session, "precisions", lambda: ("f32", "bf16"))
    plain, rounded = OpenVinoCpu(), OpenVinoCpu(precision_hint="bf16")
    assert rounded.tolerance > plain.tolerance
    assert rounded.files.latencies.path != plain.files.latencies.path
    assert rounded.files.opener.settings()["INFERENCE_PRECISION_HINT"] == "bf16"  # type: ignore[attr-defined]


def test_without_the_runtime_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'paredown\[openvino\]'"):
        OpenVinoCpu()
