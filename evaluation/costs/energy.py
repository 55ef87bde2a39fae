"""The energy of one sample by a model, for machines that nobody has metered: never a measurement.

What it says is which of two policies asks for less, not what a plug would show. Each layer's
multiply-accumulates are priced by their bits and its bytes by where they come from; nothing else
is priced (control, leakage, what lies between layers).

Prices are those of 45 nm at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do
about it)", ISSCC 2014, figure 1.1.9. An 8-bit multiplication 0.2 pJ, of 32 bits 3.1 pJ, so that in
between it grows with the product of the widths; a 32-bit addition 0.1 pJ; in 32-bit float 3.7 and
0.9 pJ; a 64-bit word from a cache of 1 MB 100 pJ, from DRAM 1.3 to 2.6 nJ, of which the lower. Of
8-bit floats the figure says nothing: they are taken to multiply as 8-bit integers do, which they do
for less, and to be added up in 32-bit float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evaluation.measurement import ENERGY, Value
from evaluation.target import FLOAT_BITS
from evaluation.work import Work


@dataclass(frozen=True)
class Prices:
    """Picojoules."""

    multiply_8x8: float = 0.2
    add: float = 0.1  # into a 32-bit sum
    float_multiply: float = 3.7
    float_add: float = 0.9
    chip_byte: float = 100 / 8
    dram_byte: float = 1300 / 8
    chip_bytes: int = 1 << 20  # activations of a layer up to so many stay on the chip

    def mac(
        self, weight_bits: int | None, activation_bits: int | None, *, floats: bool = False
    ) -> float:
        """One multiply-accumulate; in 32-bit float unless both are integers, or small floats."""
        if weight_bits is None or activation_bits is None:
            return self.float_multiply + self.float_add
        add = self.float_add if floats else self.add
        return self.multiply_8x8 * weight_bits * activation_bits / 64 + add


def modelled(
    work: Iterable[Work],
    skipped: Mapping[str, float] | None = None,
    prices: Prices | None = None,
) -> Value:
    """The energy of one sample; weights come from DRAM once, and none stays for the next."""
    left_out = skipped or {}
    told = prices or Prices()
    total = sum(_picojoules(each, left_out.get(each.layer, 0.0), told) for each in work)
    return Value(ENERGY, total * 1e-6)


def _picojoules(work: Work, skipped: float, prices: Prices) -> float:
    activations = activation_bytes_of(work)
    near = activations <= prices.chip_bytes
    mac = prices.mac(work.weight_bits, work.activation_bits, floats=work.float_inputs)
    return (
        work.macs * (1 - skipped) * mac
        + weight_bytes_of(work) * prices.dram_byte
        + activations * (prices.chip_byte if near else prices.dram_byte)
    )


def weight_bytes_of(work: Work) -> float:
    """Bytes of weights that a layer reads; of an embedding only the rows that it gives back."""
    numbers = work.outputs if work.kind == "embedding" else work.weights
    return numbers * (work.weight_bits or FLOAT_BITS) / 8


def activation_bytes_of(work: Work) -> float:
    """Bytes that a layer reads and writes, both in the bits of its input."""
    return (work.inputs + work.outputs) * (work.activation_bits or FLOAT_BITS) / 8
