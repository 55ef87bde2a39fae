"""A space as a table: what `paredown search --dry-run` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluation.target import Target
from search.space.knobs import Knob, KnobKind
from search.space.legal import Rules
from search.space.space import Space

_SIMULATED = {
    "sparsify": "zeros are simulated",
    "quantize.activations": "activations are simulated, as the kernels compute in float",
    "quantize.weights": "widths without a kernel, which save bytes alone",
}


def print_space(space: Space, console: Console, target: Target) -> None:
    """Every knob with its values and what it holds for, what all policies have, and the size.

    Then which of the choices the target only simulates, if any.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("knob", no_wrap=True)
    table.add_column("values")
    table.add_column("holds for", overflow="fold", style="dim")
    for knob in space.knobs:
        table.add_row(knob.name, str(knob.domain), _controls(knob))
    console.print(table)
    fixed = fixed_in_words(space)
    if fixed:
        console.print(fixed, markup=False, highlight=False)
    console.print(size_in_words(space), markup=False, highlight=False)
    simulated = simulated_in_words(space, target)
    if simulated:
        console.print(simulated, markup=False, highlight=False)


def size_in_words(space: Space) -> str:
    """How many policies there are to choose from."""
    size, continuous = space.size(), space.continuous()
    shown = f"{size:,}" if size < 10**9 else f"about 10^{len(str(size)) - 1}"
    ranges = f", times {continuous} continuous" if continuous else ""
    return f"{len(space.knobs)} knobs, {shown} combinations{ranges}"


def fixed_in_words(space: Space) -> str:
    """What every policy has beside the knobs; empty where nothing is unusual."""
    kinds = {knob.kind for knob in space.knobs}
    decided = {knob.name.replace("/", ".") for knob in space.knobs}
    said = [
        f"{name} {_plain(value)}"
        for name, value in space.fixed.unusual().items()
        if name not in decided and (name.partition(".")[0] in kinds or "." not in name)
    ]
    return f"every policy: {', '.join(said)}" if said else ""


def simulated_in_words(space: Space, target: Target) -> str:
    """What of the choices the target carries out without any gain; empty where nothing."""
    found: dict[str, None] = {}
    kinds: tuple[KnobKind, ...] = ("sparsify", "quantize")
    for kind in kinds:
        rules = Rules(space.fixed.words(kind), space.structure, target.capability)
        for knob in space.of_kind(kind):
            steps = [s for w in knob.values for n in knob.controls for s in rules.simulated(n, w)]
            found |= dict.fromkeys(steps)
    if not found:
        return ""
    parts = [_SIMULATED.get(step, step) for step in found]
    return f"on {target.name}, with no gain there: {'; '.join(parts)}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _controls(knob: Knob) -> str:
    return ", ".join(knob.controls) or "every layer"
