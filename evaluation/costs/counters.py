"""Energy as this machine's own counters tell it: RAPL of the processors, NVML of the GPUs.

A machine without counters, or that lets nobody read them, has none: the list is empty and nothing
is measured. What a counter tells is all that its part draws, idle power and other programs
included, and nothing is taken off. Where several are there, their readings are added up: packages
and GPUs are parts of their own, and RAPL's domains within a package (cores, graphics) are left
out, as the package has them already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from evaluation.measurement import MEASURED_ENERGY, Value

POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """Joules drawn since some moment."""

    @property
    def name(self) -> str:
        """The part of the machine that it counts for."""
        ...

    def joules(self) -> float:
        """The reading now."""
        ...

    def between(self, before: float, after: float) -> float:
        """What was drawn between two readings no further apart than the counter's range."""
        ...


@dataclass(frozen=True)
class Rapl:
    """A processor package's counter, which begins again at 0 beyond its range."""

    name: str
    folder: Path
    range: float

    def joules(self) -> float:
        """The reading now."""
        return _microjoules(self.folder / "energy_uj") * 1e-6

    def between(self, before: float, after: float) -> float:
        """What was drawn, past at most one beginning again."""
        return after - before if after >= before else after - before + self.range


@dataclass(frozen=True)
class Nvml:
    """A GPU's counter, from when its driver was loaded."""

    name: str
    library: Any
    handle: Any

    def joules(self) -> float:
        """The reading now."""
        return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * 1e-3

    def between(self, before: float, after: float) -> float:
        """What was drawn."""
        return after - before


@dataclass(frozen=True)
class Drawn:
    """What a loop of calls drew: joules in all, calls made, seconds taken."""

    joules: float
    calls: int
    seconds: float

    def energy(self, samples: int = 1) -> Value:
        """Millijoules a sample, of calls on so many samples each."""
        return Value(MEASURED_ENERGY, self.joules * 1e3 / (self.calls * samples))


def counters(powercap: Path = POWERCAP) -> list[Counter]:
    """Those that can be read now."""
    return [*_packages(powercap), *_gpus()]


def joules_of(
    call: Callable[[], object], seconds: float, of: Sequence[Counter] | None = None
) -> Drawn | None:
    """Repeat a call for so many seconds, and say what was drawn; None where nothing counts.

    A counter is read about a thousand times a second: a second or more gives a figure. A package's
    range lasts for minutes, so that a shorter loop passes its end once at most.
    """
    known = counters() if of is None else of
    if not known:
        return None
    call()
    before, start, count = [each.joules() for each in known], perf_counter(), 0
    while perf_counter() < start + seconds or count == 0:
        call()
        count += 1
    after, took = [each.joules() for each in known], perf_counter() - start
    readings = zip(known, before, after, strict=True)
    return Drawn(sum(each.between(*pair) for each, *pair in readings), count, took)


def _packages(powercap: Path) -> list[Counter]:
    """Packages are `intel-rapl:0`; what is within one is `intel-rapl:0:1`."""
    found: list[Counter] = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        try:
            name = (folder / "name").read_text().strip()
            if name.startswith("psys"):  # the whole board, packages among it
                continue
            most = _microjoules(folder / "max_energy_range_uj") * 1e-6
            counter = Rapl(f"{name} ({folder.name})", folder, most)
            counter.joules()
        except (OSError, ValueError):  # most systems let only root read it
            continue
        found.append(counter)
    return found


def _gpus() -> list[Counter]:
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return []
    found: list[Counter] = []
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            counter = Nvml(f"gpu{index}", pynvml, handle)
            counter.joules()
            found.append(counter)
    except pynvml.NVMLError:  # no driver, or a GPU too old to count
        pass
    return found


def _microjoules(path: Path) -> int:
    return int(path.read_text())
