"""The simulated accelerator: its cycles and bytes against loops that count them one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import unfold

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize, Sparsify
from compressors.record import CompressedModel, Record
from compressors.stack import apply
from evaluation.target import Artifact
from evaluation.target_extras import PricesEnergy
from evaluation.targets.npu_sim.design import Design, Multiplier, Rate
from evaluation.targets.npu_sim.note import note_of, work_in
from evaluation.targets.npu_sim.simulation import (
    Product,
    compute_cycles,
    dram_bytes,
    price,
    product_of,
)
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.storage.storage import Storage
from evaluation.work import Work, work_of
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()
FAST: dict[str, Any] = {"dram_gb_s": 1e6}  # so that arithmetic is what a layer waits for
SLOW: dict[str, Any] = {"dram_gb_s": 1e-3}


def work(module: nn.Module, *shape: int) -> Work:
    return work_of(CompressedModel(module, Record("", 0, ()), (torch.zeros(1, *shape),)))[0]


def in_bits(layer: Work, weights: int | None, activations: int | None) -> Work:
    return replace(layer, weight_bits=weights, activation_bits=activations)


def cycles(layer: Work, weights: int | None, activations: int | None, **design: Any) -> int:
    return price(in_bits(layer, weights, activations), Design(**design), 1).cycles


def pieces(size: int, width: int) -> Iterator[int]:
    """How many of a width's places are used, pass by pass."""
    while size > 0:
        yield min(size, width)
        size -= width


SIZES = st.integers(1, 9)


@settings(deadline=None, max_examples=60)
@given(st.tuples(SIZES, SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES), st.data())
def test_cycles_are_those_of_walking_the_array(
    sizes: tuple[int, int, int, int], array: tuple[int, int], data: st.DataObject
) -> None:
    product = Product(*sizes)
    design = Design(rows=array[0], columns=array[1])
    inner, along, across = (data.draw(st.sampled_from((1, 2, 8))) for _ in range(3))
    rate = Rate(inner, along, across, data.draw(st.integers(1, 9)))
    counted = done = 0
    for _ in range(product.groups):
        for positions in pieces(product.positions, rate.positions):
            for inputs in pieces(product.inputs, design.rows * rate.inputs):
                for outputs in pieces(product.outputs, design.columns * rate.outputs):
                    counted += rate.cycles
                    done += positions * inputs * outputs
    assert done == product.groups * product.positions * product.inputs * product.outputs
    assert compute_cycles(product, rate, design) == counted


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from((1, 2, 4, 8, None)),
    st.sampled_from((2, 8, None)),
    st.integers(1, 3),
)
def test_bytes_are_those_of_walking_both_orders(
    columns: int, rows: int, weights: int | None, activations: int | None, batch: int
) -> None:
    layer = in_bits(work(nn.Linear(rows, columns), rows), weights, activations)
    design = Design(weight_kib=0.125, activation_kib=0.03125)  # 128 and 32 bytes
    held = {"weights": 128.0, "inputs": 32.0}
    sizes = {
        "weights": rows * columns * (weights or 32) / 8,
        "inputs": batch * rows * (activations or 32) / 8,
    }

    def walk(outer: str, inner: str) -> float:
        read, left = 0.0, sizes[outer]
        while left > 0:  # a buffer full of one, and for it all of the other
            read += min(left, held[outer]) + sizes[inner]
            left -= held[outer]
        return read

    expected = min(walk("weights", "inputs"), walk("inputs", "weights"))
    written = batch * columns * (activations or 32) / 8
    assert dram_bytes(layer, design, batch) == pytest.approx(expected + written)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 7)),
        (nn.Conv2d(4, 8, (3, 1), groups=2), (4, 9, 7)),
        (nn.Conv2d(8, 8, 3, groups=8, padding=1), (8, 6, 6)),
    ],
)
def test_a_convolution_is_the_matrix_product_that_torch_unfolds_it_to(
    layer: nn.Conv2d, shape: tuple[int, ...]
) -> None:
    columns = unfold(
        torch.zeros(2, *shape),
        layer.kernel_size,
        layer.dilation,
        layer.padding,  # type: ignore[arg-type]
        layer.stride,
    )
    inputs, positions = columns.shape[1] // layer.groups, 2 * columns.shape[2]
    found = product_of(work(layer, *shape), 2)
    assert found == Product(layer.groups, positions, inputs, layer.out_channels // layer.groups)


def test_the_other_kinds_are_matrix_products() -> None:
    assert product_of(work(nn.Linear(12, 5), 7, 12), 3) == Product(1, 21, 12, 5)
    assert product_of(work(nn.Conv1d(3, 8, 5, 2), 3, 11), 1) == Product(1, 4, 15, 8)
    up = work(nn.ConvTranspose2d(6, 4, 3, 2, groups=2), 6, 5, 7)
    assert product_of(up, 1) == Product(2, 35, 3, 2 * 9)


FULL = work(nn.Conv2d(256, 64, 1), 256, 16, 16)  # fills the array, in whole passes


def test_fused_units_gain_by_what_they_put_together() -> None:
    fill = 16 + 32 - 2
    base = cycles(FULL, 8, 8, **FAST) - fill
    assert base * 16 * 32 == FULL.macs
    for bits, gain in {(4, 8): 2, (8, 4): 2, (4, 4): 4, (2, 2): 16, (1, 2): 16, (3, 5): 2}.items():
        assert (cycles(FULL, *bits, **FAST) - fill) * gain == base
    assert cycles(FULL, 16, 8, **FAST) - fill == 2 * base


def test_fixed_units_gain_nothing_by_fewer_bits() -> None:
    fixed = [cycles(FULL, *bits, multiplier="fixed", **FAST) for bits in ((8, 8), (4, 4), (1, 2))]
    assert len(set(fixed)) == 1
    assert fixed[0] == cycles(FULL, 8, 8, **FAST)


def test_serial_units_take_a_cycle_a_bit() -> None:
    fill, base = 16 + 32 - 2, cycles(FULL, 8, 8, **FAST) - 46
    for weights in (1, 3, 8):
        for activations in (2, 5, 8):
            found = cycles(FULL, weights, activations, multiplier="serial", **FAST) - fill
            assert found * 64 == base * weights * activations


def test_one_position_on_serial_units_gains_by_weights_alone() -> None:
    layer = work(nn.Linear(512, 1024), 512)
    serial = {
        (w, a): cycles(layer, w, a, multiplier="serial", **FAST) for w in (4, 8) for a in (4, 8)
    }
    fill = 16 + 32 - 2
    assert serial[8, 8] == serial[8, 4] == cycles(layer, 8, 8, **FAST)
    assert serial[4, 8] - fill == serial[4, 4] - fill == (serial[8, 8] - fill) / 2


def test_float_is_slower_and_does_not_gain_by_stored_bits_until_bytes_count() -> None:
    slow = cycles(FULL, None, None, **FAST)
    assert slow - 46 == 9 * (cycles(FULL, 8, 8, **FAST) - 46)
    assert cycles(FULL, 4, None, **FAST) == slow
    assert cycles(FULL, None, 8, **FAST) == slow
    dense = work(nn.Linear(1024, 1024), 1024)
    assert cycles(dense, 4, None) < cycles(dense, None, None) / 6


def test_a_layer_that_waits_for_memory_gains_by_bytes() -> None:
    dense = work(nn.Linear(1024, 1024), 1024)
    eight, four = (cycles(dense, bits, bits, **SLOW) for bits in (8, 4))
    assert four == pytest.approx(eight / 2, rel=1e-4)
    assert eight == ceil((1024 * 1024 + 2048) / Design(**SLOW).bytes_a_cycle)
    fixed = [cycles(dense, bits, bits, multiplier="fixed", **SLOW) for bits in (8, 4)]
    assert fixed == [eight, four]


def test_depthwise_layers_leave_the_array_idle() -> None:
    whole, apart = (
        work(nn.Conv2d(64, 64, 3, padding=1, groups=groups), 64, 8, 8) for groups in (1, 64)
    )
    assert whole.macs == 64 * apart.macs
    each = [layer.macs / cycles(layer, 8, 8, **FAST) / 512 for layer in (whole, apart)]
    assert each[0] > 0.95
    assert each[1] < 9 / 512


@pytest.mark.parametrize("multiplier", ["fixed", "fused", "serial"])
def test_fewer_bits_never_cost_more(multiplier: Multiplier) -> None:
    design = Design(multiplier=multiplier)
    for layer in (FULL, work(nn.Linear(100, 30), 100), work(nn.Conv2d(8, 8, 3, groups=8), 8, 6, 6)):
        for activations in (8, 5, 2):
            row = [price(in_bits(layer, w, activations), design, 1) for w in (16, 8, 7, 4, 3, 2, 1)]
            for wide, narrow in pairwise(row):
                assert narrow.cycles <= wide.cycles
                assert narrow.picojoules <= wide.picojoules
            assert price(layer, design, 1).picojoules > row[1].picojoules


def test_zeros_are_skipped_only_by_a_design_that_skips() -> None:
    zeros = replace(in_bits(FULL, 8, 8), zeros=0.75)
    dense = replace(zeros, zeros=0.0)
    design = Design(**FAST)
    assert price(zeros, design, 1) == price(dense, design, 1)
    skips = replace(design, skip_zeros=True)
    saved = price(zeros, skips, 1)
    assert saved.compute_cycles - 46 == (price(dense, skips, 1).compute_cycles - 46) / 4
    weights = 256 * 64
    assert price(dense, skips, 1).dram_bytes - saved.dram_bytes == weights * (8 - 3) / 8
    assert saved.picojoules < price(dense, skips, 1).picojoules


def test_energy_by_hand() -> None:
    layer = in_bits(work(nn.Linear(16, 32), 16), 8, 8)
    design = Design(multiplier="fixed", unit_pj={"fixed": 0.5}, buffer_pj=2, dram_pj=100)
    moved = 512 + 16 + 32
    buffers = 512 + 16 + 32 * 2 * 4
    expected = 512 * 0.5 + moved * 102 + buffers * 2
    assert price(layer, design, 1).picojoules == pytest.approx(expected)


def test_a_table_is_read_by_rows() -> None:
    table = Work("e", "embedding", "30000x64 @2", 0, 30000 * 64, 2, 128, weight_bits=4)
    found = price(table, Design(), 2)
    assert (found.compute_cycles, found.dram_bytes) == (0, 2 * (64 + 512))


def model(**steps: Quantize | Sparsify) -> CompressedModel:
    entries = []
    for name, step in steps.items():
        kind = "quantize" if isinstance(step, Quantize) else "sparsify"
        entries.append(LayerPolicy(name.replace("_", "."), **{kind: step}))  # type: ignore[arg-type]
    return apply(TASK.model(), Policy(layers=tuple(entries)), TASK)


ALL_FOUR = {name.replace(".", "_"): Quantize(4, 4) for name in LAYERS}


def lowered(target: NpuSim, made: CompressedModel, path: Path) -> Artifact:
    return target.lower(made, TASK, path)


def test_the_file_alone_is_enough_for_another_process(tmp_path: Path) -> None:
    target = NpuSim()
    plain = lowered(target, model(), tmp_path / "a.safetensors")
    small = lowered(target, model(**ALL_FOUR), tmp_path / "b.safetensors")
    timing = NpuSim().compare(plain.path, [small.path, plain.path])
    assert timing[0].median_ms == target.latency(small, plain).value
    assert timing[0].spread_ms == timing[0].speedup_spread == 0
    assert timing[0].speedup == target.latency(plain, plain).value / timing[0].median_ms
    assert timing[0].speedup > 4
    assert timing[1].speedup == 1
    unnamed = [replace(each, layer="") for each in small.work]
    assert sorted(map(repr, work_in(note_of(small.work)))) == sorted(map(repr, unnamed))


def test_the_note_takes_few_bytes(tmp_path: Path) -> None:
    made = model(**ALL_FOUR)
    noted = lowered(NpuSim(), made, tmp_path / "a.safetensors").size_bytes
    bare = Storage().lower(made, TASK, tmp_path / "b.safetensors").size_bytes
    assert bare < noted < bare + 110 * len(LAYERS)


def test_a_file_without_a_note_is_the_users_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    Storage().lower(model(), TASK, path)
    with pytest.raises(UserError, match="no note of its work"):
        NpuSim().compare(path, [path])


def test_the_signature_tells_bits_apart_and_zeros_where_they_are_skipped(tmp_path: Path) -> None:
    def signatures(target: NpuSim) -> list[str]:
        zeros, fewer = Sparsify(share=0.5), Quantize(4, 3)
        made = (model(), model(fc=zeros), model(fc=Quantize(4, 4)), model(fc=fewer))
        return [lowered(target, each, tmp_path / "m.safetensors").signature for each in made]

    plain, skipping = signatures(NpuSim()), signatures(NpuSim(design=Design(skip_zeros=True)))
    assert plain[0] == plain[1]
    assert len(set(plain)) == 3
    assert len(set(skipping)) == 4


def test_energy_is_the_designs_own_and_of_one_sample(tmp_path: Path) -> None:
    one, eight = NpuSim(), NpuSim(batch=8)
    assert isinstance(one, PricesEnergy)
    made = lowered(one, model(**ALL_FOUR), tmp_path / "m.safetensors")
    assert 0 < eight.energy(made).value < one.energy(made).value  # weights come once a batch
    assert eight.latency(made, made).value > one.latency(made, made).value
    assert one.energy(made).metric.name == "energy_uj"


def test_number_formats_that_are_no_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="npu_sim has no units for layer 'fc' with function kmeans"):
        lowered(NpuSim(), model(fc=Quantize(4, 8, function="kmeans")), tmp_path / "m.bin")
    assert not (tmp_path / "m.bin").exists()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"rows": 0}, "target.design.rows cannot be 0"),
        ({"columns": 1.5}, "target.design.columns cannot be 1.5"),
        ({"dram_gb_s": -1}, "a number above 0"),
        ({"clock_mhz": float("inf")}, "target.design.clock_mhz"),
        ({"multiplier": "fussed"}, "Did you mean 'fused'"),
        ({"skip_zeros": "yes"}, "target.design.skip_zeros"),
        ({"unit_pj": {"fixed": 1.0}}, "no price for multiplier fused"),
        ({"unit_pj": {"fused": "x"}}, "target.design.unit_pj.fused"),
    ],
)
def test_impossible_designs_are_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Design(**knobs)


def test_the_configuration_is_the_design_that_is_the_default() -> None:
    path = Path(__file__).resolve().parents[3] / "conf/target/npu_sim.yaml"
    told = yaml.safe_load(path.read_text())
    known = dict(told["design"])
    assert known.pop("_target_") == f"{Design.__module__}.{Design.__name__}"
    assert set(known) == set(Design.__dataclass_fields__)
    assert Design(**known) == Design()
