"""The CSV file: what is written is read, and what is no table is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluation.profiling.table_file import LatencyTable, Row, precision_of, read, write
from evaluation.target import FLOAT, INT8, Precision

TABLE = LatencyTable(
    {"target": "ort_cpu", "threads": "1", "processor": "A, B: 3 GHz"},
    (
        Row("linear", "10x64 @1", "w8a8", 0.001, 1e-05, 2.5, 640, 64, 10),
        Row("linear", "10x64 @1", "float", 0.002, 0.0, None, 640, 64, 10),
        Row("start", "", "", 0.0, 0.0),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "new" / "t.csv", TABLE)
    return tmp_path / "new" / "t.csv"


def test_what_is_written_is_read(path: Path) -> None:
    assert read(path) == TABLE
    assert read(path).precisions() == {"linear": (INT8, FLOAT)}


@pytest.mark.parametrize("precision", [FLOAT, INT8, Precision(4, None), Precision(None, 8)])
def test_precisions_are_read_as_they_are_written(precision: Precision) -> None:
    assert precision_of(str(precision)) == precision


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("latency table 1", "latency table 9", "its first line is not"),
        ("0.001", "nan", "line 6: median_ms is 'nan'; valid: a number from 0"),
        ("0.001", "-1", "line 6: median_ms is '-1'"),
        ("1e-05", "inf", "line 6: spread_ms is 'inf'"),
        ("2.5", "__import__('os')", "line 6: energy_uj is "),
        ("w8a8", "int8", "line 6: 'int8' is no precision; valid: float, or such as w8a8"),
        ("start,", "stop,", "line 8: no operator 'stop'; valid: linear, conv1d"),
        (",64,10\n", ",64\n", "line 6: 8 values, and not 9"),
        ("median_ms", "median", "line 5 does not name the columns op, shape, precision"),
        ("float", "w8a8", "two rows of one layer"),
    ],
)
def test_a_damaged_table_is_one_sentence(path: Path, old: str, new: str, said: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as told:
        read(path)
    assert str(told.value).startswith(f"The latency table '{path}' cannot be read: ")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no latency table .*`paredown profile` writes"):
        read(tmp_path / "none.csv")
    for content in (b"", b"\xff\xfe\x00", b"a,b\n1,2\n"):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path / "t.csv")
