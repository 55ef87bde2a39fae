"""Torch programs: the simulation's integers in torch's integer kernels, small weights, errors."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.quantization.layers import describe
from compressors.record import CompressedModel
from compressors.stack import apply
from evaluation.cache import cache_dir
from evaluation.target import FLOAT, FP8, INT8
from evaluation.targets.torch_device import opener, probe
from evaluation.targets.torch_device.opener import TorchOpener, TorchProgram, read
from evaluation.targets.torch_device.program import lowered, program, signature, to_bytes
from evaluation.targets.torch_device.rounding import Product
from evaluation.targets.torch_device.target import TABLE, TorchCpu, TorchCuda
from tests.evaluation.test_integer_kernels import Given, seeded
from tests.evaluation.tiny import LAYERS, TinyTask

UNSIGNED, SIGNED, PADDED = Product(unsigned=True), Product(), Product(multiple=8)


class Mixed(nn.Module):
    """Strides, dilation, groups, paddings, an embedding, attention, a norm after a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, (3, 2), stride=(2, 1), padding=(2, 1), dilation=2, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.after = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 12, 1, stride=2)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x[:, :, :8, :8] + self.after(self.depthwise(torch.relu(self.wide(x))))[:, :, :1, :1]
        x = self.point(x).flatten(2).transpose(1, 2)
        scores: Tensor = self.fc(x + self.attention(x, x, x, need_weights=False)[0])
        return scores


def compressed(given: Given | TinyTask, step: Quantize, layers: tuple[str, ...]) -> CompressedModel:
    entries = tuple(LayerPolicy(name, quantize=step) for name in layers)
    return apply(given.model(), Policy(layers=entries), given)


def departure(model: CompressedModel, opened: TorchProgram, x: Tensor) -> float:
    """The largest difference from the simulation, as a share of the largest output."""
    with torch.no_grad():
        simulated = model.module.eval()(x)
    exported = torch.from_numpy(opened.run(x.numpy()))
    return float((exported - simulated).abs().max() / simulated.abs().max())


def opened(model: CompressedModel, product: Product = SIGNED) -> TorchProgram:
    content = to_bytes(program(model, product))
    return TorchProgram(torch.export.load(io.BytesIO(content)), "cpu")


def operators(opened: TorchProgram) -> Counter[str]:
    nodes: Any = opened.module.graph.nodes
    return Counter(str(node.target) for node in nodes if node.op == "call_function")


MIXED = ("stem", "wide", "depthwise", "point", "fc")


@pytest.mark.parametrize("dynamic", [False, True])
def test_every_sort_of_layer_computes_with_the_simulations_integers(dynamic: bool) -> None:
    given = Given(seeded(Mixed), (3, 9, 9))
    model = compressed(given, Quantize(8, 8, dynamic=dynamic), MIXED)
    x = given.inputs[:7]
    with torch.no_grad():
        simulated = model.module.eval()(x)
        for product in (UNSIGNED, SIGNED, PADDED):
            found = lowered(model, product)[0](x)
            assert float((found - simulated).abs().max() / simulated.abs().max()) < 2e-3


def test_an_exported_program_computes_so_too() -> None:
    given = Given(seeded(Mixed), (3, 9, 9))
    static, dynamic = Quantize(8, 8), Quantize(8, 8, dynamic=True)
    row = Quantize(8, 8, dynamic=True, by_row=True)
    steps = dict(zip(MIXED, (static, dynamic, static, static, row), strict=True))
    entries = tuple(LayerPolicy(name, quantize=step) for name, step in steps.items())
    model = apply(given.model(), Policy(layers=entries), given)
    program = opened(model, UNSIGNED)
    ops = operators(program)
    assert ops["aten._int_mm.default"] == len(MIXED) - 1
    assert ops["aten.conv2d.padding"] == 1, "the one in groups"
    assert not {"aten.batch_norm.default", "aten.conv2d.default"} & ops.keys()
    assert departure(model, program, given.inputs[:7]) < 2e-3


def test_integers_of_convolutions_in_groups_are_called_simulated() -> None:
    model = compressed(Given(seeded(Mixed), (3, 9, 9)), Quantize(8, 8), MIXED)
    told = {layer.name: TABLE.simulated(layer) for layer in model.record.layers}
    assert told.pop("depthwise") == ("quantize.activations",)
    assert not any(told.values())


def test_the_profiler_sees_an_integer_kernel_for_every_layer() -> None:
    task = TinyTask()
    program = opened(compressed(task, Quantize(8, 8), LAYERS))
    run = program.call(3)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts["aten::_int_mm"] == len(LAYERS)
    assert not {"aten::conv2d", "aten::linear", "aten::addmm"} & counts.keys()


def test_the_files_integers_are_those_of_the_simulation() -> None:
    model = compressed(TinyTask(), Quantize(8, 8), LAYERS)
    state = program(model).state_dict
    for name, facts in describe(model.module).items():
        assert facts.weight_integers is not None
        written = state[f"{name}.weight"]
        expected = facts.weight_integers
        if expected.dim() == 4:
            expected = expected.permute(0, 2, 3, 1)
        assert written.dtype == torch.int8
        assert torch.equal(written.t(), expected.flatten(1))


FLOATS = Quantize(8, 8, function="e4m3", inputs="e4m3")
has_floats = pytest.mark.skipif(
    not probe.multiplies_floats("cpu"), reason="this torch multiplies no 8-bit floats on a CPU"
)


class Dense(nn.Module):
    """Linear layers of odd sizes: on rows of rows, without a bias, before a norm, of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(10, 21)
        self.two = nn.Linear(21, 32, bias=False)
        self.norm = nn.BatchNorm1d(32)
        self.three = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.one(x)).flatten(0, 1)
        hidden = self.norm(self.two(hidden)).unflatten(0, (-1, 9))
        scores: Tensor = self.three(hidden.transpose(1, 2)).mean(1)
        return scores


@has_floats
@pytest.mark.parametrize(
    "step",
    [FLOATS, replace(FLOATS, granularity="tensor"), replace(FLOATS, smooth=0.5, ranges="mse")],
    ids=["channel", "tensor", "smooth"],
)
def test_linear_layers_compute_in_the_simulations_eight_bit_floats(step: Quantize) -> None:
    given = Given(seeded(Dense), (9, 10))
    names = ("one", "two", "three")
    model = compressed(given, step, names)
    made = program(model)
    for name, facts in describe(model.module).items():
        assert facts.stored is not None
        weight = made.state_dict[f"{name}.weight"]
        assert weight.dtype == torch.float8_e4m3fn
        assert all(size % 16 == 0 for size in weight.shape)
        rows, columns = facts.stored.codes.shape
        codes = weight[:rows, :columns].view(torch.uint8)
        assert torch.equal(codes.int(), facts.stored.codes)
    for content in (program(model), torch.export.load(io.BytesIO(to_bytes(made)))):
        ran = TorchProgram(content, "cpu")
        ops = operators(ran)
        assert ops["aten._scaled_mm.default"] == len(names)
        assert not {"aten.linear.default", "aten.batch_norm.default"} & ops.keys()
        for count in (1, 7):
            assert departure(model, ran, given.inputs[:count]) < 2e-3


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target of GPUs, on a CPU."""
    monkeypatch.setattr(TorchCuda, "device", "cpu")
    for name in ("_check_device", "_device_name"):
        monkeypatch.setattr(TorchCuda, name, getattr(TorchCpu, name))


@pytest.mark.usefixtures("on_a_cpu")
def test_eight_bit_floats_are_offered_where_the_device_multiplies_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for able in (True, False):
        monkeypatch.setattr(probe, "multiplies_floats", lambda device, able=able: able)
        linear = TorchCuda(cache_dir=str(tmp_path)).capability.precisions["linear"]
        assert (FP8 in linear) == able
        assert INT8 in linear
    monkeypatch.setattr(probe, "multiplies_floats", lambda device: True)
    monkeypatch.setattr(probe, "multiplies_integers", lambda device: False)
    table = TorchCuda(cache_dir=str(tmp_path)).capability
    assert table.precisions["linear"] == (FLOAT, FP8)


@has_floats
@pytest.mark.usefixtures("on_a_cpu")
def test_a_gpus_file_in_eight_bit_floats_answers_as_simulated(tmp_path: Path) -> None:
    target, given = TorchCuda(cache_dir=str(tmp_path)), Given(seeded(Dense), (9, 10))
    model = compressed(given, FLOATS, ("one", "two", "three"))
    artifact = target.lower(model, given, tmp_path / "m.pt2")
    found = target.load(artifact.path)(given.inputs[:5])
    with torch.no_grad():
        expected = model.module.eval()(given.inputs[:5])
    assert (found - expected).norm() < target.tolerance * expected.norm()
    with pytest.raises(UserError, match=r"torch_cpu .*'one' as fp8; valid for linear: float, w8a8"):
        TorchCpu(cache_dir=str(tmp_path)).lower(model, given, tmp_path / "n.pt2")


SMALL = [
    (Quantize(8, None), 1.0),
    (Quantize(4, None), 0.5),
    (Quantize(4, None, function="asymmetric", granularity="group", group=6), 0.5),
    (Quantize(8, None, function="e4m3"), 1.0),
]


@pytest.mark.parametrize(("step", "size"), SMALL)
def test_weights_alone_are_small_in_the_file_and_float_once_it_is_open(
    step: Quantize, size: float
) -> None:
    task = TinyTask()
    model = compressed(task, step, LAYERS)
    made = program(model)
    codes = made.state_dict["block.one.small.codes"]
    assert codes.numel() * codes.itemsize == size * 16 * 16 * 9
    program_ = TorchProgram(made, "cpu")
    assert operators(program_).keys() == operators(opened(compressed(task, step, ()))).keys()
    assert departure(model, program_, next(iter(task.batches("test"))).args[0]) < 1e-5


def test_a_pickle_in_a_file_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    content = to_bytes(program(compressed(TinyTask(), Quantize(8, 8), ())))
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("model_weights_config.json"):
                told = json.loads(data)
                next(iter(told["config"].values()))["use_pickle"] = True
                data = json.dumps(told).encode()
            target.writestr(name, data)
    with pytest.raises(UserError, match="pickle"):
        read(path)


def test_a_file_is_read_once_until_it_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contents: list[bytes] = []
    monkeypatch.setattr(opener, "read", lambda path: contents.append(path.read_bytes()))
    monkeypatch.setattr(opener, "TorchProgram", lambda read, device, kept: read)
    path = tmp_path / "m.pt2"
    for content in (b"one", b"another"):
        path.write_bytes(content)
        for _ in range(2):
            TorchOpener("cpu", torch.get_num_threads())(path)
    assert contents == [b"one", b"another"]


def test_nothing_of_this_machine_is_in_the_file() -> None:
    content = to_bytes(program(compressed(TinyTask(), Quantize(8, 8), LAYERS)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    assert any(b"_int_mm" in text for text in texts)
    for word in (b"site-packages", b".py", str(Path.home()).encode()):
        assert not any(word in text for text in texts)
    assert len(content) < 25_000


def test_scales_are_no_part_of_the_signature() -> None:
    signatures = {
        signature(program(compressed(TinyTask(seed), Quantize(8, 8), ("fc",)))) for seed in (0, 1)
    }
    assert len(signatures) == 1


class Fixed(nn.Module):
    """Takes two samples and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(x.reshape(2, 4))
        return scores


def test_a_model_of_one_batch_size_is_refused() -> None:
    model = CompressedModel(Fixed(), compressed(TinyTask(), Quantize(8, 8), ()).record, ())
    with pytest.raises(UserError, match="batch size"):
        program(CompressedModel(model.module, model.record, (torch.zeros(1, 4),)))


def test_a_device_without_an_exact_kernel_offers_no_integers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not probe.multiplies_integers("meta")
    assert not probe.multiplies_floats("meta")
    monkeypatch.setattr(probe, "multiplies_integers", lambda device: False)
    table = TorchCpu(cache_dir=str(tmp_path)).capability
    assert not any(p.activations for kind in table.precisions for p in table.precisions[kind])


def test_what_is_not_there_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch_cuda needs a GPU"):
        TorchCuda(cache_dir=str(tmp_path))
    monkeypatch.setattr(probe, "has_compiler", lambda: False)
    with pytest.raises(UserError, match=r"target\.compile.*C\+\+ compiler"):
        TorchCpu(cache_dir=str(tmp_path), compile=True)
    with pytest.raises(UserError, match=r"target\.storage_only"):
        TorchCpu(cache_dir=str(tmp_path), storage_only=1)  # type: ignore[arg-type]


def test_an_opener_pins_the_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    path = tmp_path / "m.pt2"
    path.write_bytes(to_bytes(program(compressed(TinyTask(), Quantize(8, 8), ()))))
    try:
        TorchOpener("cpu", 2)(path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not probe.has_compiler(), reason="torch.compile has no C++ compiler here")
def test_a_compiled_program_computes_what_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept where all tests keep things, for to build the kernels takes half of a minute."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # set anew below, and as it was afterwards
    kept = cache_dir(None) / "inductor"
    given = Given(seeded(nn.Sequential(nn.Linear(6, 8))), (6,))
    made = program(compressed(given, Quantize(8, 8), ("0",)), UNSIGNED)
    plain = TorchProgram(made, "cpu").call(3)()
    compiled = TorchProgram(made, "cpu", kept=str(kept)).call(3)()
    assert isinstance(plain, Tensor)
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-5)
    assert any(kept.rglob("*.so")), "a kernel of its own was built"
