"""The capability that a table stands for: the precisions that it has rows of, and no more."""

from __future__ import annotations

from evaluation.profiling.table_file import LatencyTable
from evaluation.target import DEFAULT_FUNCTION, Capability

MULTIPLE, ZERO_POINTS = "channel multiple", "zero points"


def facts_of(capability: Capability) -> dict[str, str]:
    """What of a device's own capability its table has to tell."""
    return {
        MULTIPLE: str(capability.channel_multiple),
        ZERO_POINTS: "yes" if capability.zero_points else "no",
    }


def capability_of(table: LatencyTable) -> Capability:
    """The capability table of a latency table; ValueError where its facts are none."""
    precisions = table.precisions()
    bits = {p.weights for known in precisions.values() for p in known if p.weights is not None}
    multiple = table.facts.get(MULTIPLE, "")
    if not multiple.isdecimal() or int(multiple) < 1:
        raise ValueError(f"its {MULTIPLE} is '{multiple}'")
    return Capability(
        precisions,
        channel_multiple=int(multiple),
        functions={DEFAULT_FUNCTION: tuple(sorted(bits, reverse=True))},
        zero_points=table.facts.get(ZERO_POINTS) != "no",
    )
