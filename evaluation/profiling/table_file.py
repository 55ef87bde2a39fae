"""The table as one portable CSV file: facts of the device as comments, then a row a layer.

Reading one runs nothing that stands in it, and every line is held against what it may be. Rows of
the operators `start`, `factor` and `between` are the correction; `policy` and `pace` are what was
timed for it.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from compressors.errors import UserError, choices
from compressors.record import LayerKind
from evaluation.cache import replacing
from evaluation.target import FLOAT, Precision

FIRST = "# paredown latency table 1"
START, FACTOR, BETWEEN, POLICY, PACE = "start", "factor", "between", "policy", "pace"
KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
OPERATORS = (*KINDS, START, FACTOR, BETWEEN, POLICY, PACE)
_PRECISION = re.compile(r"w(\d+|f)a(\d+|f)")


@dataclass(frozen=True)
class Row:
    """One thing that was timed; times are those of one call, of a whole batch."""

    op: str
    shape: str
    precision: str
    median_ms: float  # of a factor: how many times the sum of its layers
    spread_ms: float
    energy_uj: float | None = None  # of one sample; None: nothing counts it there
    macs: int = 0  # of one sample, as are the next two
    inputs: int = 0
    outputs: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells rows apart."""
        return self.op, self.shape, self.precision


COLUMNS = tuple(each.name for each in fields(Row))


@dataclass(frozen=True)
class LatencyTable:
    """The rows, and under which conditions they were measured."""

    facts: Mapping[str, str]
    rows: tuple[Row, ...] = field(default=())

    def of(self, *operators: str) -> list[Row]:
        """The rows of some operators."""
        return [row for row in self.rows if row.op in operators]

    def precisions(self) -> dict[LayerKind, tuple[Precision, ...]]:
        """What there are rows of, by kind of layer."""
        found = {kind: (precision_of(row.precision) for row in self.of(kind)) for kind in KINDS}
        every = {kind: tuple(dict.fromkeys(precisions)) for kind, precisions in found.items()}
        return {kind: precisions for kind, precisions in every.items() if precisions}


def precision_of(text: str) -> Precision:
    """The precision that `str` wrote; ValueError where it is none."""
    if text == str(FLOAT):
        return FLOAT
    found = _PRECISION.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no precision; valid: float, or such as w8a8 and w4af")
    weights, activations = (None if bits == "f" else int(bits) for bits in found.groups())
    return Precision(weights, activations)


def write(path: Path, table: LatencyTable) -> None:
    """Write the whole file, or leave the one that is there."""
    text = io.StringIO()
    text.write(FIRST + "\n")
    for name, value in table.facts.items():
        text.write(f"# {name}: {' '.join(str(value).split())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        writer.writerow("" if value is None else value for value in astuple(row))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"The table '{path}' cannot be written: {error.strerror}.") from error


def read(path: Path) -> LatencyTable:
    """The table in a file; UserError in one sentence where there is none, or not a sound one."""
    if not path.is_file():
        raise UserError(
            f"There is no latency table '{path}'; `paredown profile` writes one on the device."
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if not lines or lines[0].strip() != FIRST:
            raise ValueError(f"its first line is not '{FIRST}'")
        return _table(lines)
    except (ValueError, OSError) as error:
        raise UserError(f"The latency table '{path}' cannot be read: {error}.") from error


def _table(lines: list[str]) -> LatencyTable:
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    facts = dict(_fact(line) for line in lines[1:count])
    if count == len(lines) or tuple(lines[count].split(",")) != COLUMNS:
        raise ValueError(f"line {count + 1} does not name the columns {', '.join(COLUMNS)}")
    rows = tuple(_rows(lines[count + 1 :], count + 2))
    if len({row.key for row in rows}) != len(rows):
        raise ValueError("it has two rows of one layer and precision")
    return LatencyTable(facts, rows)


def _fact(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("#").partition(":")
    return name.strip(), value.strip()


def _rows(lines: list[str], first: int) -> Iterator[Row]:
    for number, words in enumerate(csv.reader(lines), first):
        try:
            yield _row(words)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _row(words: list[str]) -> Row:
    if len(words) != len(COLUMNS):
        raise ValueError(f"{len(words)} values, and not {len(COLUMNS)}")
    said = dict(zip(COLUMNS, words, strict=True))
    if said["op"] not in OPERATORS:
        raise ValueError(f"no operator '{said['op']}'; valid: {choices(OPERATORS)}")
    if said["op"] in KINDS:
        precision_of(said["precision"])
    numbers: dict[str, Any] = {n: _number(said, n) for n in ("median_ms", "spread_ms")}
    numbers |= {n: int(_number(said, n)) for n in ("macs", "inputs", "outputs")}
    energy = _number(said, "energy_uj") if said["energy_uj"] else None
    return Row(said["op"], said["shape"], said["precision"], energy_uj=energy, **numbers)


def _number(said: Mapping[str, str], name: str) -> float:
    try:
        found = float(said[name])
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found >= 0):
        raise ValueError(f"{name} is '{said[name]}'; valid: a number from 0")
    return found
