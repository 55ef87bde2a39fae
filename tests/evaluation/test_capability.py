"""What a table refuses, with the valid choices, and what it only simulates."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.policies.steps import FUNCTION_BITS
from compressors.record import LayerRecord
from evaluation.target import FLOAT, FP8, INT8, Capability, Precision
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage

KERNELS = OrtCpu.capability
STORED = Storage.capability
FLOATS = {"weight_function": "e4m3", "inputs": "e4m3"}
ADVICE = "; target.storage_only=true would store it so"


def layer(kind: str = "linear", bits: tuple[int | None, int | None] = (8, 8), **facts: Any) -> Any:
    return LayerRecord("fc", "fc", kind, 8, 8, 72, *bits, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (layer(bits=(4, 4)), "as w4a4; valid for linear: float, w8a8, w4af"),
        (layer(bits=(3, 8)), f"as w3a8; valid for linear: float, w8a8, w4af{ADVICE}"),
        (layer("conv2d", (4, None)), f"as w4af; valid for conv2d: float, w8a8{ADVICE}"),
        (layer("conv1d"), "as w8a8; valid for conv1d: float"),
        (layer("embedding", (8, None)), f"as w8af; valid for embedding: float{ADVICE}"),
        (layer("conv2d", dynamic=True), "with dynamic activations; valid: dynamic false"),
        (
            layer(dynamic=True, by_row=True),
            "with a range for every row of activations; valid: by_row false",
        ),
        (layer(weight_function="kmeans"), "with function kmeans at 8 bits; valid there: symmetric"),
        (layer(weight_function="e4m3"), "with function e4m3 at 8 bits; valid there: symmetric"),
        (layer(**FLOATS), "as fp8; valid for linear: float, w8a8, w4af"),
        (layer("conv2d", **FLOATS), "as fp8; valid for conv2d: float, w8a8"),
        (layer(granularity="group32"), "with granularity group32; valid: channel, tensor"),
        (
            layer(bits=(4, None), granularity="group48"),
            "with groups of 48; valid: 16, 32, 64, 128, 256",
        ),
        (
            layer(bits=(4, None), weight_function="log"),
            "with function log at 4 bits; valid there: symmetric, asymmetric",
        ),
    ],
)
def test_what_has_no_kernel_is_refused_with_the_valid_choices(asked: Any, words: str) -> None:
    assert KERNELS.refusal(asked) == words
    assert STORED.refusal(asked) is None


@pytest.mark.parametrize(
    "asked",
    [
        layer(),
        layer("conv2d", weight_function="symmetric", granularity="tensor"),
        layer("conv_transpose2d", (None, None)),
        layer("embedding", (None, None), sparsity=0.5),
        layer(dynamic=True),
        layer(bits=(4, None), granularity="group64", weight_function="asymmetric"),
    ],
)
def test_what_has_a_kernel_is_taken(asked: Any) -> None:
    assert KERNELS.refusal(asked) is None


def test_kernels_of_floats_take_no_integers_and_say_what_they_lack() -> None:
    kinds = ("linear", "conv2d")
    table = Capability(dict.fromkeys(kinds, (FP8,)), zero_points=False, one_group=(FP8,))
    assert table.refusal(layer(**FLOATS)) is None
    assert table.refusal(layer("conv2d", **FLOATS)) is None
    assert table.refusal(layer(weight_function="e4m3")) == "as w8a8; valid for linear: fp8"
    grouped = table.refusal(layer("conv2d", groups=8, **FLOATS))
    assert grouped == "as fp8 in 8 groups; valid: layers of one group"
    other = table.refusal(layer(weight_function="symmetric", inputs="e4m3"))
    assert other == "with function symmetric at 8 bits; valid there: e4m3"
    assert (table.offered("linear"), table.offered("linear", "e4m3")) == ((), (FP8,))


def test_every_format_and_width_can_be_stored() -> None:
    for function, widths in FUNCTION_BITS.items():
        for bits in widths:
            for granularity in ("channel", "tensor", "group7"):
                asked = layer(
                    bits=(bits, 5), weight_function=function, granularity=granularity, dynamic=True
                )
                assert STORED.refusal(asked) is None
    wrong = layer(bits=(1, None), weight_function="symmetric")
    assert STORED.refusal(wrong) == (
        "with function symmetric at 1 bits; valid there: asymmetric, kmeans, binary"
    )
    assert STORED.refusal(layer("embedding", (8, 8))) is not None


def test_a_kernel_multiplies_zeros_and_a_file_leaves_them_out_where_that_is_less() -> None:
    for facts in ({"sparsity": 0.9}, {"pattern": "2:4"}, {"sparsity": 0.5, "pattern": "2:4"}):
        assert KERNELS.simulated(layer(bits=(None, None), **facts)) == ("sparsify",)
        assert STORED.simulated(layer(bits=(None, None), **facts)) == ()
        assert STORED.simulated(layer(bits=(4, None), **facts)) == ()
    assert STORED.simulated(layer(bits=(4, None), sparsity=0.2)) == ("sparsify",)
    assert STORED.simulated(layer(bits=(1, None), pattern="2:4")) == ("sparsify",)
    fast = Capability({"linear": (FLOAT,)}, patterns=("2:4",))
    assert fast.simulated(layer(bits=(None, None), pattern="2:4", sparsity=0.5)) == ()
    assert fast.simulated(layer(bits=(None, None), pattern="4:8")) == ("sparsify",)


def test_activations_that_a_file_rounds_are_computed_in_float() -> None:
    assert STORED.simulated(layer(bits=(4, 4))) == ("quantize.activations",)
    assert STORED.simulated(layer(bits=(4, None))) == ()
    assert KERNELS.simulated(layer()) == ()


def test_what_is_offered_fits_the_number_format() -> None:
    assert KERNELS.offered("linear") == (FLOAT, INT8, Precision(4, None))
    assert KERNELS.offered("linear", "asymmetric") == (FLOAT, Precision(4, None))
    assert KERNELS.offered("conv2d") == (FLOAT, INT8)
    assert KERNELS.offered("linear", "kmeans") == (FLOAT,)
    assert KERNELS.offered("embedding") == (FLOAT,)
    assert Precision(1, None) not in STORED.offered("linear")
    assert Precision(1, None) in STORED.offered("linear", "binary")
    assert {p.weights for p in STORED.offered("conv2d", "ternary")} == {None, 2}
    assert all(p.activations is None for p in STORED.offered("embedding"))
    assert {p.inputs for p in STORED.offered("linear")} == {"affine"}
    assert FP8 in STORED.offered("linear", "e4m3")


def test_widths_without_a_kernel_are_taken_where_that_is_asked_for_and_said_to_be_stored_only() -> (
    None
):
    asked = [layer(bits=(3, 8)), layer("conv2d", (5, None)), layer("embedding", (8, None))]
    stores = OrtCpu(storage_only=True).capability
    for one in asked:
        assert KERNELS.refusal(one) is not None
        assert stores.refusal(one) is None
        assert stores.simulated(one) == ("quantize.weights",)
    for one in (layer(), layer(bits=(4, None)), layer(bits=(None, None))):
        assert stores.simulated(one) == ()
    assert Precision(3, 8) in stores.offered("conv2d")
