"""Latencies that were measured on this machine, by what they depend on.

One file of JSON lines for each (processor, runtime, threads, batch), so that every process and
every later study reads the same number for the same signature. What was measured on a noisy
machine is provisional: a later process measures it again, once, if the machine is quieter then,
and the better one counts from there on. A line that cannot be read, say the last one of a process
that was killed, is passed over. Knows nothing of how they are measured.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evaluation.cache import ends_amid_a_line, make_folder

ARM = ("CPU implementer", "CPU part", "CPU variant", "CPU revision", "Model")  # of its cores


@dataclass(frozen=True)
class Latency:
    """A median, and half of its 95 % interval."""

    median_ms: float
    spread_ms: float
    noisy: bool = False

    def better_than(self, other: Latency) -> bool:
        """Whether to go by this one; of two that are not noisy, the first to be measured counts."""
        return other.noisy and (
            not self.noisy or self.spread_ms * other.median_ms < other.spread_ms * self.median_ms
        )


@dataclass
class LatencyCache:
    """The latencies under one set of conditions."""

    folder: Path
    conditions: dict[str, str | int]
    _known: dict[str, Latency] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)  # provisional or not, it stays so here

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
        row = {"signature": signature, **asdict(latency), **self.conditions}
        with open(self.path, "ab", buffering=0) as file:
            file.write(b"\n" * ends_amid_a_line(self.path) + json.dumps(row).encode() + b"\n")
        self._settled.add(signature)
        self._learn(signature, latency)

    def settled(self, signature: str) -> Latency | None:
        """What is known and need not be measured again by this process."""
        known = self.get(signature)
        provisional = known is not None and known.noisy and signature not in self._settled
        return None if provisional else known

    def remembered(
        self,
        signature: str,
        measure: Callable[[], Latency],
        again: Callable[[], bool] = lambda: False,
    ) -> Latency:
        """What is known, or is measured now; `again` tells whether to improve on a provisional."""
        if self.settled(signature) is None:
            if self.get(signature) is None or again():
                self.put(signature, measure())
            self._settled.add(signature)
        return self._known[signature]

    def _read(self, line: str) -> None:
        try:
            row = json.loads(line)
            noisy = bool(row.get("noisy", False))
            latency = Latency(float(row["median_ms"]), float(row["spread_ms"]), noisy)
            self._learn(str(row["signature"]), latency)
        except (ValueError, KeyError, TypeError, AttributeError):
            return

    def _learn(self, signature: str, latency: Latency) -> None:
        known = self._known.get(signature)
        if known is None or latency.better_than(known):
            self._known[signature] = latency


def processor() -> str:
    """The processor's model and features, as far as this system tells."""
    try:
        return described(Path("/proc/cpuinfo").read_text())
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def described(cpuinfo: str) -> str:
    """A processor by what Linux lists of its cores: names on x86, parts on ARM."""
    pairs = [line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line]
    facts = {name.strip(): value.strip() for name, value in pairs}
    told = facts.get("flags") or facts.get("Features", "")
    flags = hashlib.sha256(told.encode()).hexdigest()[:8]
    if "model name" in facts and "CPU part" not in facts:
        return f"{facts['model name']} {flags}"
    parts = {f"{name.strip()} {value.strip()}" for name, value in pairs if name.strip() in ARM}
    return " ".join([platform.machine(), *sorted(parts), flags])
