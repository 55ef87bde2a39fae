"""Two streams, one of packed whole numbers and one of floats, written and read in one order.

What is read is held against what is there, so that a file which promises more than it has is
refused before any room is taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluation.targets.storage.bits import Array, pack, packed_bytes, unpack


@dataclass
class Writer:
    """Collects both streams."""

    packed: list[bytes] = field(default_factory=list)
    floats: list[Array] = field(default_factory=list)

    def put_numbers(self, numbers: Array, width: int) -> None:
        """Whole numbers of a width; every array begins with a byte of its own."""
        self.packed.append(pack(numbers, width))

    def put_floats(self, values: Array) -> None:
        """32-bit floats."""
        self.floats.append(np.asarray(values, "<f4").reshape(-1))

    def streams(self) -> tuple[Array, Array]:
        """The bytes and the floats."""
        packed = np.frombuffer(b"".join(self.packed), np.uint8)
        return packed, np.concatenate([np.zeros(0, "<f4"), *self.floats])


@dataclass
class Reader:
    """Gives back, in order, what a writer was given."""

    packed: Array
    floats: Array
    _byte: int = 0
    _float: int = 0

    def numbers(self, count: int, width: int) -> Array:
        """The next whole numbers."""
        size = packed_bytes(count, width)
        piece = self.packed[self._byte : self._byte + size]
        if len(piece) != size:
            raise ValueError("it ends before its weights do")
        self._byte += size
        return unpack(piece.tobytes(), width, count)

    def values(self, count: int) -> Array:
        """The next floats."""
        piece = self.floats[self._float : self._float + count]
        if len(piece) != count:
            raise ValueError("it ends before its floats do")
        self._float += count
        return piece.astype(np.float32)

    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._byte == len(self.packed) and self._float == len(self.floats)
