"""One weight to its entry in the file, and back: an entry says what to read from the streams.

An entry is a dict of JSON: its shape and form, and what the form needs to know. Of the ways to
write a weight the smallest is taken: zeros may be told apart by one bit a weight and then take
none of their own; numbers of a model in half precision take 16 bits.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from evaluation.targets.storage.bits import Array
from evaluation.targets.storage.coded import Coded, decode, to_rows
from evaluation.targets.storage.formats import fixed_levels
from evaluation.targets.storage.halves import HALF_BITS, as_halves, from_halves
from evaluation.targets.storage.streams import Reader, Writer

Entry = dict[str, Any]
FLOAT_BITS = 32


def put_float(values: Array, writer: Writer) -> Entry:
    """Write an array as it is (left out, a negative zero becomes a plain one)."""
    entry: Entry = {"shape": list(values.shape)}
    flat = values.reshape(-1)
    halves = as_halves(flat)
    width = FLOAT_BITS if halves is None else HALF_BITS
    alive = flat != 0
    kept = int(alive.sum())
    if flat.size + width * kept < width * flat.size:
        entry["alive"] = True
        writer.put_numbers(alive, 1)
    else:
        alive = np.ones(flat.size, bool)
    if halves is None:
        writer.put_floats(flat[alive])
    else:
        entry["half"], bits = halves
        writer.put_numbers(bits[alive], HALF_BITS)
    return entry


def get_float(entry: Entry, reader: Reader) -> Array:
    """The array again."""
    shape = _shape(entry)
    alive = _alive(entry, prod(shape), reader)
    kept = int(alive.sum())
    values = np.zeros(alive.size, np.float32)
    if "half" in entry:
        values[alive] = from_halves(entry["half"], reader.numbers(kept, HALF_BITS))
    else:
        values[alive] = reader.values(kept)
    return values.reshape(shape)


def put_coded(coded: Coded, function: str, writer: Writer) -> Entry:
    """Write a weight's codes and what they mean."""
    rows, groups = coded.scales.shape
    entry: Entry = {
        "shape": list(coded.shape),
        "axis": coded.axis,
        "bits": coded.bits,
        "scales": [rows, groups],
        "group": coded.group,
    }
    writer.put_floats(coded.scales)
    if coded.levels is not None:
        _put_levels(coded.levels, coded.bits, function, entry, writer)
    else:
        _put_zeros(coded, entry, writer)
    codes = coded.codes.reshape(-1)
    alive = _worth_telling(coded)
    if alive is not None:
        entry["alive"] = True
        writer.put_numbers(alive, 1)
        codes = codes[alive]
    writer.put_numbers(codes, coded.bits)
    if coded.factors is not None:
        entry["factors"] = True
        writer.put_floats(coded.factors)
    return entry


def get_coded(entry: Entry, reader: Reader) -> Array:
    """The float weight that an entry of codes stands for."""
    shape, axis, bits = _shape(entry), int(entry["axis"]), int(entry["bits"])
    many, groups = (int(size) for size in entry["scales"])
    rows, count = shape[axis], prod(shape)
    scales = reader.values(many * groups).reshape(many, groups)
    levels = zeros = None
    if "levels" in entry:
        levels = _get_levels(entry, bits, reader)
    else:
        zeros = _get_zeros(entry, bits, scales, reader)
    alive = _alive(entry, count, reader)
    codes = np.zeros(count, np.uint16)
    codes[alive] = reader.numbers(int(alive.sum()), bits)
    factors = reader.values(rows) if entry.get("factors") else None
    coded = Coded(
        shape,
        axis,
        bits,
        codes.reshape(rows, -1),
        scales,
        int(entry["group"]),
        zeros,
        levels,
        alive.reshape(rows, -1),
        factors,
    )
    return decode(coded)


def _worth_telling(coded: Coded) -> Array | None:
    """Which weights are not zero, where saying so is needed or saves more than it takes."""
    values = decode(coded)
    alive = to_rows(values, coded.axis).reshape(-1) != 0
    saves = alive.size + coded.bits * int(alive.sum()) < coded.bits * alive.size
    unmasked = values if coded.alive is None else decode(replace(coded, alive=None))
    return alive if saves or not np.array_equal(values, unmasked) else None


def _put_levels(levels: Array, bits: int, function: str, entry: Entry, writer: Writer) -> None:
    fixed = fixed_levels(function, bits)
    if fixed is not None and levels.tobytes() == fixed.tobytes():
        entry["levels"] = function
    else:
        entry["levels"] = list(levels.shape)
        writer.put_floats(levels)


def _get_levels(entry: Entry, bits: int, reader: Reader) -> Array:
    if isinstance(entry["levels"], str):
        fixed = fixed_levels(entry["levels"], bits)
        if fixed is None:
            raise ValueError(f"no number format {entry['levels']!r} of {bits} bits")
        return fixed
    many, size = (int(part) for part in entry["levels"])
    return reader.values(many * size).reshape(many, size)


def _put_zeros(coded: Coded, entry: Entry, writer: Writer) -> None:
    assert coded.zeros is not None
    first = int(coded.zeros.reshape(-1)[0])
    if (coded.zeros == first).all():
        entry["zero"] = first
    else:
        writer.put_numbers(coded.zeros, coded.bits)


def _get_zeros(entry: Entry, bits: int, scales: Array, reader: Reader) -> Array:
    if "zero" in entry:
        return np.full(scales.shape, int(entry["zero"]), np.int32)
    zeros: Array = reader.numbers(scales.size, bits).reshape(scales.shape)
    return zeros


def _alive(entry: Entry, count: int, reader: Reader) -> Array:
    """Which weights are written; the others are 0."""
    return reader.numbers(count, 1).astype(bool) if "alive" in entry else np.ones(count, bool)


def _shape(entry: Entry) -> tuple[int, ...]:
    shape = tuple(int(size) for size in entry["shape"])
    if any(size < 1 for size in shape):
        raise ValueError(f"shape {shape}")
    return shape
