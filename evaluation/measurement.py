"""Numbers that carry their unit, their direction and their spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compressors.errors import UserError, unknown

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """What is measured, before it is."""

    name: str
    unit: str
    direction: Direction


@dataclass(frozen=True)
class Value:
    """A measured metric; the spread is a standard error, or half a confidence interval."""

    metric: Metric
    value: float
    spread: float | None = None


ERROR = Metric("error", "fraction", "minimize")
LATENCY = Metric("latency_ms", "ms", "minimize")
P95 = Metric("p95_ms", "ms", "minimize")
P99 = Metric("p99_ms", "ms", "minimize")
THROUGHPUT = Metric("throughput", "samples/s", "maximize")
PEAK_MEMORY = Metric("peak_memory_bytes", "bytes", "minimize")
SIZE = Metric("size_bytes", "bytes", "minimize")
PARAMETERS = Metric("parameters", "count", "minimize")
MACS = Metric("macs", "count", "minimize")
BIT_OPERATIONS = Metric("bit_operations", "count", "minimize")
ACTIVATIONS = Metric("activation_bytes", "bytes", "minimize")  # the most held at once
ENERGY = Metric("energy_uj", "uJ", "minimize")  # of one sample, by a model
COSTS = (LATENCY, SIZE, PARAMETERS, MACS, BIT_OPERATIONS, ACTIVATIONS, ENERGY)
MEASURED_ENERGY = Metric("measured_energy_mj", "mJ", "minimize")  # of one sample, by counters


@dataclass(frozen=True)
class Measurement:
    """Every value of one candidate, by name."""

    values: tuple[Value, ...]

    def __getitem__(self, name: str) -> Value:
        for value in self.values:
            if value.metric.name == name:
                return value
        raise UserError(unknown("metric", name, (v.metric.name for v in self.values)))

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready data that `from_json` reads back."""
        return [{**asdict(v.metric), "value": v.value, "spread": v.spread} for v in self.values]

    @staticmethod
    def from_json(rows: Iterable[dict[str, Any]]) -> Measurement:
        """The measurement that `to_json` wrote."""
        return Measurement(
            tuple(
                Value(Metric(r["name"], r["unit"], r["direction"]), r["value"], r["spread"])
                for r in rows
            )
        )
