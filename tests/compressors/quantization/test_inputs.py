"""Inputs on their grids, against torch's fake quantisers and ONNX Runtime's operators."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

from compressors.errors import PolicyError, UserError
from compressors.policies.steps import Quantize
from compressors.quantization.float_inputs import FloatInputQuantizer
from compressors.quantization.input_quantizer import InputQuantizer
from tests.compressors.quantization.helpers import every_float, numbers

RANGES = [(0.0, 3.0), (-1.3, 2.2), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)]


def quantizer(bits: int, low: float, high: float) -> InputQuantizer:
    made = InputQuantizer(bits, torch.device("cpu"))
    made.set_range(low, high)
    return made


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("low_high", RANGES)
def test_activations_round_as_torchs_fake_quantize_does(
    bits: int, low_high: tuple[float, float]
) -> None:
    found = quantizer(bits, *low_high)
    x = (4 * numbers(4096)).requires_grad_(True)
    scale, zero = float(found.scale), int(found.zero_point)
    assert 0 <= zero <= 2**bits - 1
    ours = found(x)
    (ours_grad,) = torch.autograd.grad(ours.sum(), x)
    reference = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 2**bits - 1)
    (reference_grad,) = torch.autograd.grad(reference.sum(), x)
    assert float((ours != reference).float().mean()) < 1e-3  # halves may go either way
    assert torch.equal(ours_grad, reference_grad)
    assert float(found(torch.zeros(1))) == 0.0
    assert len(ours.unique()) <= 2**bits
    torch.testing.assert_close(found(ours), ours)


def onnx_session(*nodes: tuple[str, list[str], list[str]]) -> ort.InferenceSession:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("z", TensorProto.UINT8, []),
    ]
    used = {name for _, names, _ in nodes for name in names}
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "rounding",
        [value for value in inputs if value.name in used],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("low_high", RANGES)
def test_eight_bit_activations_are_those_of_onnx_runtime(low_high: tuple[float, float]) -> None:
    session = onnx_session(
        ("QuantizeLinear", ["x", "s", "z"], ["q"]), ("DequantizeLinear", ["q", "s", "z"], ["y"])
    )
    found = quantizer(8, *low_high)
    x = torch.cat([3 * numbers(5000), found.scale * (torch.arange(-300, 300) + 0.5)])
    scale, zero = found.scale.numpy(), np.uint8(int(found.zero_point))
    (theirs,) = session.run(None, {"x": x.numpy(), "s": scale, "z": np.array(zero)})
    assert np.array_equal(found(x).numpy(), theirs)


DYNAMIC = onnx_session(
    ("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
    ("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
)


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("low_high", RANGES)
def test_signed_activations_have_zero_in_the_middle(
    bits: int, low_high: tuple[float, float]
) -> None:
    found = InputQuantizer(bits, torch.device("cpu"), signed=True)
    found.set_range(*low_high)
    middle = 2 ** (bits - 1)
    x = numbers(400) * 3
    scale = float(found.scale)
    expected = torch.fake_quantize_per_tensor_affine(x, scale, 0, -middle, middle - 1)
    torch.testing.assert_close(found(x), expected)
    assert int(found.zero_point) == middle
    assert scale * (middle - 1) >= max(abs(end) for end in low_high) * (1 - 1e-6)


@given(
    seed=st.integers(0, 1000),
    shift=st.floats(-4, 4, width=32),
    spread=st.sampled_from([1e-3, 1.0, 40.0]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_dynamic_activations_are_those_of_onnx_runtime(
    seed: int, shift: float, spread: float
) -> None:
    x = numbers(257, seed=seed) * spread + shift
    found = InputQuantizer(8, torch.device("cpu"), dynamic=True)
    (theirs,) = DYNAMIC.run(None, {"x": x.numpy()})
    assert np.array_equal(found(x).numpy(), theirs)


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_dynamic_ranges_are_every_inputs_own(bits: int) -> None:
    found = InputQuantizer(bits, torch.device("cpu"), dynamic=True)
    x = numbers(64).requires_grad_(True)
    once = found(x)
    assert len(once.unique()) <= 2**bits
    torch.testing.assert_close(found(100 * x), 100 * once)
    once.sum().backward()
    assert x.grad is not None
    assert float(x.grad.mean()) > 0.9
    for same in (torch.zeros(3, 2), torch.zeros(0)):
        assert torch.equal(found(same), same)
    assert bool(found(torch.tensor([1.0, float("nan")])).isnan().all())
    assert bool(found(torch.tensor([1.0, float("inf")])).isnan().all())


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_activations_keep_their_precision(dtype: torch.dtype, dynamic: bool) -> None:
    found = InputQuantizer(8, torch.device("cpu"), dynamic=dynamic)
    found.set_range(-2.0, 2.0)
    x = numbers(500).to(torch.bfloat16)
    ours: Tensor = found(x.to(dtype))
    assert ours.dtype == dtype
    assert torch.equal(ours.bfloat16(), found(x.float()).bfloat16())


def test_a_range_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="not all finite numbers"):
        quantizer(8, float("nan"), 1.0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_learned_steps_of_activations_have_torchs_gradients(bits: int) -> None:
    found = quantizer(bits, -1.1, 2.3)
    scale, zero = found.scale.clone().view(1), found.zero_point.float().view(1)
    found.set_mode("learned")
    x = (2 * numbers(6, 50)).requires_grad_(True)
    upstream = numbers(6, 50, seed=9)
    highest = 2**bits - 1
    factor = 1 / (50 * highest) ** 0.5
    scale.requires_grad_(True)
    reference = torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero, 0, highest, factor)
    expected = torch.autograd.grad((reference * upstream).sum(), (x, scale))
    assert found.log_step is not None
    ours = torch.autograd.grad((found(x) * upstream).sum(), (x, found.log_step))
    torch.testing.assert_close(found(x), reference)
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1] * found.scale, expected[1][0])


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_every_row_has_a_grid_of_its_own(bits: int) -> None:
    """Checked one number at a time, on rows of sizes far apart and one of zeros."""
    found = InputQuantizer(bits, torch.device("cpu"), dynamic=True, by_row=True)
    x = numbers(60).reshape(3, 4, 5) * torch.tensor([1e-2, 1.0, 30.0, 0.0]).view(1, 4, 1)
    rounded, middle = found(x), 2 ** (bits - 1)
    for row, result in zip(x.reshape(12, 5), rounded.reshape(12, 5), strict=True):
        step = row.abs().max() / np.float32((2**bits - 1) / 2)
        levels = [min(max(round(float(v / step)), -middle), middle - 1) if v else 0 for v in row]
        torch.testing.assert_close(result, torch.tensor(levels) * step)
    learning = x.clone().requires_grad_(True)
    found(learning).sum().backward()
    assert learning.grad is not None
    assert float(learning.grad.mean()) > 0.6


@pytest.mark.parametrize("low_high", RANGES)
def test_eight_bit_floats_are_those_that_torch_casts_to(low_high: tuple[float, float]) -> None:
    found = FloatInputQuantizer("e4m3", torch.device("cpu"))
    found.set_range(*low_high)
    largest = max(map(abs, low_high))
    assert float(found.scale) == pytest.approx(max(largest / 448, 1e-8))
    x = torch.cat([every_float() * found.scale, 3 * numbers(2000)]).requires_grad_(True)
    units = (x.detach() / found.scale).clamp(-448, 448)
    expected = units.to(torch.float8_e4m3fn).float() * found.scale
    assert torch.equal(found(x), expected)
    assert torch.equal(found(expected), expected)
    found(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 1, (x / found.scale).abs() < 448 * (1 + 1 / 32))


def test_a_learned_scale_of_floats_moves_by_what_is_clamped_and_what_is_rounded() -> None:
    found = FloatInputQuantizer("e4m3", torch.device("cpu"))
    found.set_range(-1.0, 2.0)
    found.set_mode("learned")
    assert found.log_step is not None
    x = 3 * numbers(4, 100)
    scale, units = found.scale, x / found.scale
    levels = units.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    slope = torch.where(units.abs() < 448 * (1 + 1 / 32), levels - units, levels).sum()
    found(x).sum().backward()
    weight = 1 / (100 * 448) ** 0.5
    assert found.log_step.grad is not None
    torch.testing.assert_close(found.log_step.grad, slope * weight / scale)
    found.freeze()
    assert found.mode == "fixed"


def test_a_grid_for_every_row_is_for_dynamic_inputs() -> None:
    with pytest.raises(PolicyError, match=r"quantize\.by_row takes dynamic"):
        Quantize(8, 8, by_row=True)
