"""What a runtime may use while it opens, answers or is timed, and what a process does use.

Time is the wall clock's. Memory is what the process really holds (its resident set), watched from
outside: a limit on its address space would break runtimes that reserve far more than they touch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from compressors.errors import UserError

MEGABYTE = 1 << 20
TIMEOUT_S = 120.0


class MeasurementError(UserError):
    """A runtime that hung, crashed, failed or took too much memory on one file."""


@dataclass(frozen=True)
class Limits:
    """Of one request: to open a file, to answer a batch, to be timed once."""

    seconds: float = TIMEOUT_S
    memory_mb: int | None = None  # None: half of this machine's

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise UserError(f"target.timeout_s cannot be {self.seconds!r}; valid: seconds, > 0.")
        if self.memory_mb is not None and not self.memory_mb > 0:
            raise UserError(
                f"target.memory_mb cannot be {self.memory_mb!r}; valid: megabytes, > 0, or null."
            )

    def times(self, count: int) -> Limits:
        """The limits of a request that deals with so many files."""
        return replace(self, seconds=self.seconds * count)

    @property
    def memory_bytes(self) -> int:
        """The limit of the resident set."""
        if self.memory_mb is not None:
            return self.memory_mb * MEGABYTE
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def resident(process: int) -> int | None:
    """Bytes that a process holds; None where this system does not tell, or it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def reset_peak() -> int | None:
    """Begin this process's peak anew; bytes held now, or None where this system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident(os.getpid())


def peak() -> int:
    """The most bytes that this process held since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
