"""Messages over a socket between a process and the one it started; arrays travel without copies.

A message is anything that pickles: both ends are one program, and nobody else holds the socket.
It goes as the sizes of its parts, its pickle, then the memory of each array in it.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

COUNT = struct.Struct("<I")
TOGETHER = 1 << 16  # bytes of arrays that are not worth a system call of their own


def send(pipe: socket.socket, message: Any, on_wait: Callable[[], None] | None = None) -> None:
    """Send a message; where the socket has a timeout, `on_wait` is called each time it passes."""
    buffers: list[memoryview] = []
    head = pickle.dumps(message, 5, buffer_callback=lambda b: buffers.append(b.raw()))
    sizes = [len(head), *(buffer.nbytes for buffer in buffers)]
    start = COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes) + head
    if sum(sizes[1:]) <= TOGETHER:
        start, buffers = b"".join([start, *buffers]), []
    for part in (memoryview(start), *buffers):
        _send(pipe, part, on_wait)


def receive(pipe: socket.socket, on_wait: Callable[[], None] | None = None) -> Any:
    """The next message; EOFError where the other end is gone."""
    count = COUNT.unpack(_receive(pipe, COUNT.size, on_wait))[0]
    sizes = struct.unpack(f"<{count}Q", _receive(pipe, 8 * count, on_wait))
    head, *buffers = (_receive(pipe, size, on_wait) for size in sizes)
    return pickle.loads(head, buffers=buffers)


def _send(pipe: socket.socket, part: memoryview, on_wait: Callable[[], None] | None) -> None:
    while part.nbytes:
        try:
            part = part[pipe.send(part) :]
        except TimeoutError:
            if on_wait is not None:
                on_wait()


def _receive(pipe: socket.socket, size: int, on_wait: Callable[[], None] | None) -> Any:
    found = np.empty(size, np.uint8)
    rest = found.data
    while rest.nbytes:
        try:
            count = pipe.recv_into(rest)
        except TimeoutError:
            if on_wait is not None:
                on_wait()
            continue
        if not count:
            raise EOFError
        rest = rest[count:]
    return found
