"""Whole numbers in as few bits as they need, one after another; exact both ways.

Least significant bit first, across the borders of bytes; the last byte is filled up with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
WIDEST = 16
CHUNK = 1 << 20  # numbers at a time, a multiple of 8, so that every chunk ends with a whole byte


def packed_bytes(count: int, width: int) -> int:
    """How many bytes so many numbers of a width take."""
    return (count * width + 7) // 8


def pack(numbers: Array, width: int) -> bytes:
    """Numbers from 0 to 2^width - 1 as bytes."""
    flat = numbers.reshape(-1)
    if not 1 <= width <= WIDEST:
        raise ValueError(f"{width} bits; valid: 1 to {WIDEST}")
    if flat.size and (flat.min() < 0 or flat.max() >= 1 << width):
        raise ValueError(f"numbers from {flat.min()} to {flat.max()} do not fit {width} bits")
    return b"".join(
        _pack(flat[start : start + CHUNK], width) for start in range(0, flat.size, CHUNK)
    )


def unpack(data: bytes, width: int, count: int) -> Array:
    """The numbers again, as unsigned 16-bit integers."""
    if len(data) != packed_bytes(count, width):
        raise ValueError(f"{len(data)} bytes for {count} numbers of {width} bits")
    numbers = np.empty(count, np.uint16)
    for start in range(0, count, CHUNK):
        end = min(start + CHUNK, count)
        piece = data[start * width // 8 : packed_bytes(end, width)]
        numbers[start:end] = _unpack(piece, width, end - start)
    return numbers


def _pack(numbers: Array, width: int) -> bytes:
    pairs = numbers.astype("<u2").view(np.uint8).reshape(-1, 2)
    bits = np.unpackbits(pairs, axis=1, count=width, bitorder="little")
    return np.packbits(bits, bitorder="little").tobytes()


def _unpack(data: bytes, width: int, count: int) -> Array:
    stream = np.frombuffer(data, np.uint8)
    bits = np.unpackbits(stream, count=count * width, bitorder="little").reshape(count, width)
    wide = np.zeros((count, WIDEST), np.uint8)
    wide[:, :width] = bits
    return np.packbits(wide, axis=1, bitorder="little").view("<u2").reshape(-1)
