"""What a device's 8-bit kernels and this machine's compiler can do, tried out once a process."""

from __future__ import annotations

import shutil
from functools import cache

import torch

CLOSE = 1e-2  # of products of floats: some GPUs add up in fewer digits than single precision
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


@cache
def multiplies_floats(device: str) -> bool:
    """Whether `torch._scaled_mm` is there for e4m3, with answers in single precision."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = (
        torch.randn(size, 64, generator=generator).mul(64).clamp(-448, 448).to(torch.float8_e4m3fn)
        for size in (32, 16)
    )
    one = torch.ones((), device=device)
    try:
        found = torch._scaled_mm(
            rows.to(device), columns.to(device).t(), one, one, out_dtype=torch.float32
        ).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):  # no such device, or no kernel
        return False
    expected = rows.double() @ columns.double().t()
    return bool(((found - expected).abs() <= CLOSE * expected.abs().max()).all())


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler for its CPU kernels."""
    return any(shutil.which(name) for name in COMPILERS)
