"""The table of prices: what is read back, whose price counts, and what a cut line does."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.latency.operator_table import OperatorTable
from evaluation.measuring.operators import YARDSTICK, Operator, Price

CONV = Operator.of("Conv", "1x8x4x4 8x8x3x3", "float", {"pads": [1, 1]})
ADD = Operator.of("Add", "1x8x4x4", "float", {})


def measured(conv: float, pace: float = 1.0) -> dict[str, Price]:
    return {CONV.key: Price(conv, 0.1), YARDSTICK: Price(pace, 0.0)}


def test_what_one_process_wrote_another_reads(tmp_path: Path) -> None:
    first, second = (OperatorTable(tmp_path / "t.csv") for _ in range(2))
    assert second.missing([CONV, ADD, CONV]) == [CONV.key, ADD.key]
    first.put([CONV, ADD], measured(2.0))
    assert second.get(CONV.key) == Price(2.0, 0.1)
    assert second.missing([CONV, ADD]) == [ADD.key]


def test_of_two_prices_the_first_counts_for_everybody(tmp_path: Path) -> None:
    first, second = (OperatorTable(tmp_path / "t.csv") for _ in range(2))
    first.put([CONV], measured(2.0))
    second.put([CONV], measured(3.0))
    for table in (first, second, OperatorTable(tmp_path / "t.csv")):
        assert table.get(CONV.key) == Price(2.0, 0.1)


def test_prices_are_at_the_pace_of_the_first_measurement(tmp_path: Path) -> None:
    table = OperatorTable(tmp_path / "t.csv")
    table.put([ADD], {ADD.key: Price(1.0, 0.2), YARDSTICK: Price(0.5, 0.0)})
    table.put([CONV], measured(3.0, pace=1.5))  # a machine three times as slow by now
    found = table.get(CONV.key)
    assert found is not None
    assert (found.median_ms, found.spread_ms) == pytest.approx((1.0, 0.1 / 3))


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    table = OperatorTable(tmp_path / "t.csv")
    table.put([CONV], measured(2.0))
    with open(table.path, "a") as file:
        file.write(f"{ADD.key},Add,1x8,float,0.5")
    again = OperatorTable(table.path)
    assert again.get(ADD.key) is None
    assert again.get(CONV.key) == Price(2.0, 0.1)
    other = Operator.of("Relu", "1x8", "float", {})
    again.put([other], {other.key: Price(7.0, 0.1), YARDSTICK: Price(1.0, 0.0)})
    for written in (again, OperatorTable(table.path)):
        assert written.get(ADD.key) is None  # and not what the next line says
        assert written.get(other.key) == Price(7.0, 0.1)


def test_operators_differ_by_whatever_their_speed_depends_on() -> None:
    other = Operator.of("Conv", "1x8x4x4 8x8x3x3", "float", {"pads": [0, 0]})
    assert other.key != CONV.key
    assert Operator.of("Conv", "1x8x4x4 8x8x3x3", "float", {"pads": [1, 1]}) == CONV
    assert (CONV.family, ADD.family) == ("float", "light")
    assert Operator.of("QLinearConv", "", "uint8+int8", {}).family == "integer"
