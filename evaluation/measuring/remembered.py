"""Latencies that were measured on this machine, by what they depend on.

One file of JSON lines for each (processor, runtime, threads, batch), so that every process and
every later study reads the same number for the same signature. A line that cannot be read, say
the last one of a process that was killed, is passed over. Knows nothing of how they are measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.cache import make_folder


@dataclass(frozen=True)
class Latency:
    """A median, and half of its 95 % interval."""

    median_ms: float
    spread_ms: float


@dataclass
class LatencyCache:
    """The latencies under one set of conditions."""

    folder: Path
    conditions: dict[str, str | int]
    _known: dict[str, Latency] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file, named by the hash of the conditions."""
        facts = json.dumps(self.conditions, sort_keys=True)
        return self.folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}.jsonl"

    def get(self, signature: str) -> Latency | None:
        """What was measured, by this process or another."""
        if signature not in self._known and self.path.exists():
            for line in self.path.read_text().splitlines():
                self._read(line)
        return self._known.get(signature)

    def put(self, signature: str, latency: Latency) -> None:
        """Remember a measurement, in one write."""
        make_folder(self.folder)
        row = {
            "signature": signature,
            "median_ms": latency.median_ms,
            "spread_ms": latency.spread_ms,
            **self.conditions,
        }
        with open(self.path, "ab", buffering=0) as file:
            file.write(b"\n" * self._cut_short() + json.dumps(row).encode() + b"\n")
        self._known[signature] = latency

    def remembered(self, signature: str, measure: Callable[[], Latency]) -> Latency:
        """What is known, or is measured now."""
        known = self.get(signature)
        if known is None:
            known = measure()
            self.put(signature, known)
        return known

    def _cut_short(self) -> bool:
        """Whether the last line lacks its end."""
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _read(self, line: str) -> None:
        try:
            row = json.loads(line)
            latency = Latency(float(row["median_ms"]), float(row["spread_ms"]))
            self._known.setdefault(str(row["signature"]), latency)
        except (ValueError, KeyError, TypeError):
            return


def processor() -> str:
    """The processor's model and features, as far as this system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:8]
    return f"{facts.get('model name', platform.machine())} {flags}"
