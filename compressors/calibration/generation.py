"""What results depend on besides their inputs: our code, torch, the kind of processor."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

import torch

from compressors.calibration import digest

SOURCES = Path(__file__).parents[1]


@cache
def generation() -> str:
    """A digest that changes with this package's code, torch's version and the processor's kind."""
    texts = (path.read_bytes() for path in sorted(SOURCES.rglob("*.py")))
    code = hashlib.blake2b(b"\0".join(texts), digest_size=digest.SIZE).hexdigest()
    capability = torch.backends.cpu.get_cpu_capability()
    return digest.of_text(code, torch.__version__, platform.machine(), capability)
