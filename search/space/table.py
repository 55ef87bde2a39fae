"""A space as a table: what `paredown search --dry-run` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from search.space.knobs import Knob
from search.space.space import Space


def print_space(space: Space, console: Console) -> None:
    """Every knob with what it holds for and the values it may take, then the size."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("knob", no_wrap=True)
    table.add_column("values")
    table.add_column("holds for", overflow="fold", style="dim")
    for knob in space.knobs:
        table.add_row(knob.name, str(knob.domain), _controls(knob))
    console.print(table)
    console.print(size_in_words(space), markup=False, highlight=False)


def size_in_words(space: Space) -> str:
    """How many policies there are to choose from."""
    size, continuous = space.size(), space.continuous()
    shown = f"{size:,}" if size < 10**9 else f"about 10^{len(str(size)) - 1}"
    ranges = f", times {continuous} continuous" if continuous else ""
    return f"{len(space.knobs)} knobs, {shown} combinations{ranges}"


def _controls(knob: Knob) -> str:
    return ", ".join(knob.controls) or "every layer"
