"""What each member did to each layer, as a strip of cells: bits, width, rank, zeros, depth.

Reads the trials' records; the columns are the layers of the uncompressed model, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from search.front.front import Front
from search.study.ledger import StudyRows, TrialRow
from search.views import record_words
from search.views.figures import count

Layers = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One layer of one member. Width is the share of output channels kept."""

    removed: bool
    bits: int | None
    width: float
    rank: int | None
    words: str
    sparse: bool = False  # single weights were made zero


@dataclass(frozen=True)
class Strip:
    """One member's cells, in the order of the columns."""

    trial: int
    name: str
    cells: tuple[Cell, ...]
    depth: str
    recovery: str
    heads: str = ""


@dataclass(frozen=True)
class Strips:
    """Every member's strip, the columns and how they group, and what the legend needs to name."""

    columns: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    strips: tuple[Strip, ...]
    bits: tuple[int, ...]
    sparse: bool = False


def strips(rows: StudyRows, front: Front) -> Strips | None:
    """The strips of all members; None where no trial kept a record."""
    whole = _whole(rows)
    members = [row for row in front.members if row.record]
    if not whole or not members:
        return None
    drawn = tuple(_strip(row, whole) for row in members)
    used = {cell.bits for strip in drawn for cell in strip.cells if cell.bits and not cell.removed}
    sparse = any(cell.sparse for strip in drawn for cell in strip.cells)
    return Strips(tuple(whole), _groups(list(whole)), drawn, tuple(sorted(used)), sparse)


def _whole(rows: StudyRows) -> dict[str, int]:
    """Layers of the uncompressed model and their channels, from the fullest records."""
    channels: dict[str, int] = {}
    recorded = [row for row in rows.complete() if row.record]
    for row in sorted(recorded, key=lambda row: -len({x["source"] for x in _layers(row)})):
        for layer in _layers(row):
            full = layer["out_channels"] + layer["removed_channels"]
            if layer["rank"] is None or layer["source"] not in channels:
                channels[layer["source"]] = max(full, channels.get(layer["source"], 0))
    return channels


def _layers(row: TrialRow) -> Layers:
    return row.record.get("layers") or () if row.record else ()


def _strip(row: TrialRow, whole: Mapping[str, int]) -> Strip:
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for layer in _layers(row):
        parts.setdefault(layer["source"], []).append(layer)
    record = row.record or {}
    removed = record.get("removed_blocks") or ()
    epochs = (record.get("recovery") or {}).get("epochs", 0)
    return Strip(
        trial=row.number,
        name=row.baseline or "",
        cells=tuple(_cell(name, full, parts.get(name, [])) for name, full in whole.items()),
        depth=f"without {', '.join(removed)}" if removed else "",
        recovery=count(epochs, "epoch") if epochs else "no recovery",
        heads=", ".join(f"{name} {kept} heads" for name, kept in record_words.heads(record)),
    )


def _cell(name: str, full: int, parts: Layers) -> Cell:
    if not parts:
        return Cell(True, None, 0.0, None, f"{name}: removed")
    last = parts[-1]
    rank = next((part["rank"] for part in parts if part["rank"] is not None), None)
    bits, zeros = last["weight_bits"], record_words.zeros(last)
    kept = last["out_channels"]
    told = [f"{kept} of {full} channels"]
    told.append(f"{record_words.weights(last)} weights")
    told.append(f"{record_words.activations(last)} activations")
    told += [f"{zeros} zeros"] if zeros else []
    told += [f"rank {rank}"] if rank is not None else []
    words = f"{name}: {', '.join(told)}"
    return Cell(False, bits, min(1.0, kept / full), rank, words, bool(zeros))


def _groups(names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Neighbouring columns of one stage, as (stage, number of columns); one alone needs no name."""
    stages = ((stage, len(list(run))) for stage, run in groupby(names, lambda n: n.split(".")[0]))
    return tuple((stage if span > 1 else "", span) for stage, span in stages)
