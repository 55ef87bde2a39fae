"""The accelerator that is simulated, as plain numbers, and the work of its units.

Units stand in rows, along which a layer's inputs are summed up, and columns, one an output
channel. By their kind they multiply integers so:

- fixed: one product of up to 8 x 8 bits a cycle, whatever the bits.
- fused: 16 bricks of 2 x 2 bits, put together to products of 2, 4 or 8 bits on either side; other
  widths take the next wider. Products in a unit beyond one add along the inputs (Bit Fusion).
- serial: 64 products of single bits, for 8 inputs of 8 positions; a product of w x a bits takes
  w * a cycles. Where there are not 8 positions, for 8 outputs instead, activations then at the pace
  of 8 bits (Loom).

16-bit weights take two passes of 8 bits. A layer that is not in integers on both sides is
computed in 32-bit float, a product every `float_cycles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

from compressors.errors import UserError, unknown

Multiplier = Literal["fixed", "fused", "serial"]
WIDEST = 8  # bits that a unit takes at once
LANES = 8  # of a serial unit, in either direction
BRICKS = 16  # of a fused unit
BRICK_BITS = 2
SUM_BYTES = 4
WHERE = "target.design."  # in the configuration


@dataclass(frozen=True)
class Rate:
    """What a unit does in some cycles: products of so many inputs, positions and outputs."""

    inputs: int = 1
    positions: int = 1
    outputs: int = 1
    cycles: int = 1

    @property
    def products(self) -> int:
        """Multiply-accumulates in those cycles."""
        return self.inputs * self.positions * self.outputs


@dataclass(frozen=True)
class Design:
    """Sizes, rates and prices; where they come from is told in conf/target/npu_sim.yaml."""

    multiplier: Multiplier = "fused"
    rows: int = 16
    columns: int = 32
    clock_mhz: float = 500
    dram_gb_s: float = 12
    weight_kib: float = 64
    activation_kib: float = 32
    sum_kib: float = 16
    float_cycles: int = 9
    skip_zeros: bool = False
    unit_pj: Mapping[str, float] = field(
        default_factory=lambda: {"fixed": 0.34, "fused": 0.69, "serial": 1.0}
    )
    float_pj: float = 4.6
    buffer_pj: float = 2.5
    dram_pj: float = 162.5

    def __post_init__(self) -> None:
        if self.multiplier not in get_args(Multiplier):
            raise UserError(unknown(f"{WHERE}multiplier", self.multiplier, get_args(Multiplier)))
        if self.multiplier not in self.unit_pj:
            raise UserError(f"{WHERE}unit_pj has no price for multiplier {self.multiplier}.")
        if not isinstance(self.skip_zeros, bool):
            raise UserError(f"{WHERE}skip_zeros cannot be {self.skip_zeros!r}; valid: true, false.")
        for name in ("rows", "columns", "float_cycles"):
            _check(name, getattr(self, name), whole=True)
        for name in ("clock_mhz", "dram_gb_s", "weight_kib", "activation_kib", "sum_kib"):
            _check(name, getattr(self, name))
        prices = {f"unit_pj.{name}": price for name, price in self.unit_pj.items()}
        for name in ("float_pj", "buffer_pj", "dram_pj"):
            prices[name] = getattr(self, name)
        for name, price in prices.items():
            _check(name, price)

    @property
    def bytes_a_cycle(self) -> float:
        """What DRAM gives or takes in a cycle."""
        return self.dram_gb_s * 1e3 / self.clock_mhz

    def rates(self, weight_bits: int | None, activation_bits: int | None) -> tuple[Rate, ...]:
        """The ways in which units can take such a layer."""
        if weight_bits is None or activation_bits is None:
            return (Rate(cycles=self.float_cycles),)
        if self.multiplier == "serial":
            along = Rate(LANES, positions=LANES, cycles=weight_bits * activation_bits)
            across = Rate(LANES, outputs=LANES, cycles=weight_bits * WIDEST)
            return along, across
        passes = -(-weight_bits // WIDEST)
        if self.multiplier == "fixed":
            return (Rate(cycles=passes),)
        bricks = _bricks(min(weight_bits, WIDEST)) * _bricks(activation_bits)
        return (Rate(BRICKS // bricks, cycles=passes),)

    def product_pj(self, rate: Rate, weight_bits: int | None, activation_bits: int | None) -> float:
        """The energy of one multiply-accumulate; units that have nothing to do draw nothing."""
        if weight_bits is None or activation_bits is None:
            return self.float_pj
        return self.unit_pj[self.multiplier] * rate.cycles / rate.products


def _bricks(bits: int) -> int:
    """Bricks along one side of a product: 1, 2 or 4."""
    count = 1
    while count * BRICK_BITS < bits:
        count *= 2
    return count


def _check(name: str, value: Any, *, whole: bool = False) -> None:
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < inf:
        valid = "a whole number from 1" if whole else "a number above 0"
        raise UserError(f"{WHERE}{name} cannot be {value!r}; valid: {valid}.")
