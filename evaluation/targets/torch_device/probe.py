"""What a device's integer kernel and this machine's compiler can do, tried out once a process."""

from __future__ import annotations

import shutil
from functools import cache

import torch

COMPILERS = ("g++", "clang++", "c++")


@cache
def multiplies_integers(device: str, *, unsigned: bool = False) -> bool:
    """Whether `torch._int_mm` is there and exact, at the largest integers too."""
    generator = torch.Generator().manual_seed(0)
    lowest, kind = (0, torch.uint8) if unsigned else (-128, torch.int8)
    rows = torch.randint(lowest, lowest + 256, (32, 64), generator=generator)
    columns = torch.randint(-127, 128, (64, 16), generator=generator)
    rows[0], columns[:, 0] = lowest, -127
    rows[1], columns[:, 1] = lowest + 255, 127
    try:
        found = torch._int_mm(rows.to(device, kind), columns.to(device, torch.int8)).cpu()
    except (RuntimeError, AssertionError):  # no such device, or no such kernel for it
        return False
    return torch.equal(found.long(), rows @ columns)


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler for its CPU kernels."""
    return any(shutil.which(name) for name in COMPILERS)
