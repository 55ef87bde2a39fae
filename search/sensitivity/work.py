"""What a setting leaves of each layer, from the model's structure alone: the cheap side of costs.

Every choice multiplies a layer's weights, multiply-accumulates and bits by a factor, so that tens
of thousands of settings are priced by products of matrices. Knows nothing of a target: `costs`
holds these totals against what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.policies.policy_rules import full_rank, kept_channels, kept_heads, rank_of
from compressors.structures.structure import Layer, Structure
from search.sensitivity.coding import Coding, Settings
from search.space.knobs import Knob

Floats = NDArray[np.float64]
GONE = -30.0  # the logarithm of nothing
FLOAT_BITS = 32
INTEGER = 0.35  # of the time of a float multiplication, before anything is measured
TOTALS = ("bytes", "weights", "macs", "bit_operations", "calls", "time", "activations")
_FACTORS = ("weights", "macs", "weight_bits", "input_bits", "speed", "outputs", "calls")


class Work:
    """The totals of settings, each as a share of the uncompressed model's."""

    def __init__(self, coding: Coding) -> None:
        layers = coding.space.structure.layers
        self._tables = {name: _Table(coding, found) for name, found in _tables(coding).items()}
        self._weights = np.array([layer.parameters for layer in layers], dtype=np.float64)
        self._macs = np.array([layer.macs for layer in layers], dtype=np.float64)
        fans = [layer.in_channels // layer.groups * prod(layer.kernel) for layer in layers]
        self._outputs = self._macs / np.maximum(fans, 1)
        self.weights = float(self._weights.sum())

    def totals(self, settings: Settings) -> Floats:
        """A row of totals a setting, in the order of `TOTALS`."""
        part = {name: table.left(settings) for name, table in self._tables.items()}
        stored = part["weights"] * part["weight_bits"]
        bits = part["macs"] * part["weight_bits"] * part["input_bits"]
        columns = (
            _share(stored, self._weights),
            _share(part["weights"], self._weights),
            _share(part["macs"], self._macs),
            _share(bits, self._macs),
            part["calls"].mean(axis=1),
            _share(part["macs"] * part["speed"], self._macs),
            _share(part["outputs"] * part["input_bits"], self._outputs),
        )
        found: Floats = np.maximum(np.stack(columns, axis=1), 1e-6)
        return found


class _Table:
    """By what every choice multiplies one quantity of the layers: the few pairs that matter."""

    def __init__(self, coding: Coding, logs: Floats) -> None:
        self._layers = logs.shape[1]
        ends = np.append(coding.starts, coding.width)
        touched = [
            (layer, knob)
            for knob in range(len(coding))
            for layer in np.flatnonzero(logs[ends[knob] : ends[knob + 1]].any(axis=0))
        ]
        self._pairs = np.array(sorted(touched), dtype=np.int64).reshape(-1, 2)
        self._logs = logs
        self._firsts = np.flatnonzero(np.diff(self._pairs[:, 0], prepend=-1))

    def left(self, settings: Settings) -> Floats:
        """The share that is left in every layer."""
        summed = np.zeros((len(settings), self._layers))
        if len(self._pairs):
            layer, knob = self._pairs.T
            logs = self._logs[settings.columns[:, knob], layer] * settings.alive[:, knob]
            summed[:, layer[self._firsts]] = np.add.reduceat(logs, self._firsts, axis=1)
        return np.exp(summed)


def _tables(coding: Coding) -> dict[str, Floats]:
    """The logarithms of all factors, a column of the settings by a layer."""
    structure = coding.space.structure
    places = {layer.name: index for index, layer in enumerate(structure.layers)}
    tables = {name: np.zeros((coding.width, len(places))) for name in _FACTORS}
    for knob, values, start in zip(coding.knobs, coding.values, coding.starts, strict=True):
        if knob.kind == "policy":
            continue
        words = None if knob.kind == "depth" else coding.space.fixed.words(knob.kind)
        for index, value in enumerate(values):
            step = value if words is None else words.step(value)
            for layer, factors in _factors(knob, step, structure) if step else ():
                for name, factor in factors.items():
                    log_factor = log(factor) if factor else GONE
                    tables[name][int(start) + index, places[layer]] += log_factor
    return tables


def _share(parts: Floats, whole: Floats) -> Floats:
    total: Floats = parts @ (whole / max(float(whole.sum()), 1.0))
    return total


def _factors(knob: Knob, step: Any, structure: Structure) -> Iterator[tuple[str, dict[str, float]]]:
    """The layers that one choice of a knob touches, and by what it multiplies what they have."""
    if knob.kind == "depth":
        blocks = [block for block in structure.blocks if block.name in knob.controls]
        nothing = dict.fromkeys(("weights", "macs", "outputs", "calls"), 0.0)
        yield from ((name, nothing) for block in blocks for name in block.layers)
    elif knob.kind in ("prune", "heads"):
        find = _channels if knob.kind == "prune" else _heads
        yield from (found for name in knob.controls for found in find(name, step, structure))
    else:
        for name in knob.controls:
            layer = structure.layer(name)
            if layer is not None:
                yield name, _of_layer(knob.kind, step, layer)


def _of_layer(kind: str, step: Any, layer: Layer) -> dict[str, float]:
    if kind == "sparsify":
        share, of = step.kept_of or (1 - step.share, 1)
        return {"weights": share / of}
    if kind == "lowrank":
        left = _low_rank(layer, step)
        return {"weights": left, "macs": left, "calls": 2.0}
    both = step.weights is not None and step.activations is not None
    return {
        "weight_bits": (step.weights or FLOAT_BITS) / FLOAT_BITS,
        "input_bits": (step.activations or FLOAT_BITS) / FLOAT_BITS,
        "speed": INTEGER if both else 1.0,
    }


def _low_rank(layer: Layer, step: Any) -> float:
    """The share of weights that is left, as though the factors were of the plain form."""
    inputs, outputs = layer.in_channels * prod(layer.kernel), layer.out_channels
    share = step.ratio if step.ratio is not None else 0.5 * (step.energy or 1.0)
    rank = step.rank if step.rank is not None else rank_of(full_rank(layer), share)
    return min(1.0, rank * (inputs + outputs) / (inputs * outputs))


def _channels(root: str, step: Any, structure: Structure) -> Iterator[tuple[str, dict[str, float]]]:
    group = structure.group_of(root)
    if group is None:
        return
    left = kept_channels(group.channels, step, group.bundle) / group.channels
    for name in group.members:
        yield name, {"weights": left, "macs": left, "outputs": left}
    for name in group.readers:
        layer = structure.layer(name)
        if layer is not None and not (layer.groups > 1 and name in group.members):
            yield name, {"weights": left, "macs": left}


def _heads(name: str, step: Any, structure: Structure) -> Iterator[tuple[str, dict[str, float]]]:
    attention = next(found for found in structure.attentions if found.name == name)
    left = kept_heads(attention.heads, step.share) / attention.heads
    for layer in dict.fromkeys((attention.query, attention.key, attention.value)):
        yield layer, {"weights": left, "macs": left, "outputs": left}
    yield attention.output, {"weights": left, "macs": left}
