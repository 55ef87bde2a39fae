"""Cycles, bytes and energy of one layer on the simulated accelerator.

A layer takes as long as the longer of its arithmetic and its traffic with DRAM, which run side by
side. Units whose row or column lies beyond the layer's edge do nothing, so that narrow and
depthwise layers leave most of the array idle; each layer fills and empties the array once.
Features go to DRAM and come back between layers, both in the bits of the layer at hand. Of a
layer's weights and inputs, what does not fit its buffer is read again for every buffer full of
the other, in the cheaper of the two orders. Zeros are skipped, if at all, in perfect balance.
What lies between layers is taken to hide behind them and costs nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

from evaluation.targets.npu_sim.design import SUM_BYTES, Design, Rate
from evaluation.work import Work

FLOAT_BITS = 32


@dataclass(frozen=True)
class Product:
    """A layer as so many equal matrix products: positions x inputs by inputs x outputs."""

    groups: int
    positions: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Price:
    """What a layer costs."""

    compute_cycles: int
    dram_bytes: float
    cycles: int
    picojoules: float


def simulate(work: Iterable[Work], design: Design, batch: int) -> tuple[Price, ...]:
    """The price of every layer, for a batch."""
    return tuple(price(each, design, batch) for each in work)


def price(work: Work, design: Design, batch: int) -> Price:
    """The price of one layer, for a batch."""
    fetched = dram_bytes(work, design, batch)
    waiting = ceil(fetched / design.bytes_a_cycle)
    moved = fetched * (design.dram_pj + design.buffer_pj)
    if work.kind == "embedding":
        return Price(0, fetched, waiting, moved)
    product = product_of(work, batch)
    rates = design.rates(work.weight_bits, work.activation_bits)
    rate = min(rates, key=lambda rate: compute_cycles(product, rate, design))
    kept = 1 - work.zeros if design.skip_zeros else 1.0
    compute = ceil(compute_cycles(product, rate, design) * kept)
    compute += design.rows + design.columns - 2
    each = design.product_pj(rate, work.weight_bits, work.activation_bits)
    arithmetic = work.macs * batch * kept * each
    buffers = buffer_bytes(work, product, rate, design) * design.buffer_pj
    return Price(compute, fetched, max(compute, waiting), arithmetic + buffers + moved)


def product_of(work: Work, batch: int) -> Product:
    """The matrix products that a layer is, after its shape."""
    first, second, *kernel = (int(size) for size in work.shape.split(" ")[0].split("x"))
    found = re.search(r" g(\d+)", work.shape)
    groups = int(found[1]) if found else 1
    positions = batch * work.macs // max(1, work.weights)
    if work.kind == "conv_transpose2d":  # its weight has the input channels first
        return Product(groups, positions, first // groups, second * prod(kernel))
    return Product(groups, positions, second * prod(kernel), first // groups)


def compute_cycles(product: Product, rate: Rate, design: Design) -> int:
    """Cycles of arithmetic, with whole units and whole passes."""
    return (
        product.groups
        * ceil(product.positions / rate.positions)
        * ceil(product.inputs / (design.rows * rate.inputs))
        * ceil(product.outputs / (design.columns * rate.outputs))
        * rate.cycles
    )


def dram_bytes(work: Work, design: Design, batch: int) -> float:
    """Bytes read and written beyond the chip."""
    bits = work.activation_bits or FLOAT_BITS
    written = work.outputs * batch * bits / 8
    if work.kind == "embedding":  # only the rows that are looked up
        return work.outputs * batch * (work.weight_bits or FLOAT_BITS) / 8 + written
    weights = weight_bytes(work, design)
    inputs = work.inputs * batch * bits / 8
    rounds_of_weights = ceil(weights / (design.weight_kib * 1024))
    rounds_of_inputs = ceil(inputs / (design.activation_kib * 1024))
    read = min(weights + inputs * rounds_of_weights, inputs + weights * rounds_of_inputs)
    return read + written


def weight_bytes(work: Work, design: Design) -> float:
    """A layer's weights as they are fetched; with a bitmap where that leaves zeros out for less."""
    bits = work.weight_bits or FLOAT_BITS
    sparse = 1 + (1 - work.zeros) * bits
    return work.weights * (min(bits, sparse) if design.skip_zeros else bits) / 8


def buffer_bytes(work: Work, product: Product, rate: Rate, design: Design) -> float:
    """Bytes that go between the buffers and the array.

    Weights stay in their units for as many positions as there is room for sums; inputs are read
    once for every width of columns, and sums are read and written once for every height of rows.
    """
    bits = work.activation_bits or FLOAT_BITS
    columns = design.columns * rate.outputs
    room = max(1, int(design.sum_kib * 1024) // (SUM_BYTES * columns))
    weights = weight_bytes(work, design) * ceil(product.positions / room)
    read = product.groups * product.positions * product.inputs * bits / 8
    inputs = read * ceil(product.outputs / columns)
    heights = ceil(product.inputs / (design.rows * rate.inputs))
    sums = product.groups * product.positions * product.outputs * heights * 2 * SUM_BYTES
    return weights + inputs + sums
