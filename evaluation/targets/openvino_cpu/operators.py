"""What OpenVINO makes of a file, operator by operator, and what each of them takes.

The operators are those of the compiled model's own account of what it executes. They are priced
where they stand: the runtime counts the time of each while the whole model runs, at a cost that
the whole hardly feels. Its counts are means of whole microseconds since the model was compiled, and
the machine's pace changes meanwhile, by another share for convolutions of another kind: each is
held against the mean of the uncompressed model, which runs in turns with this one and is slowed
down as it is. Both are compiled a few times, and of these ratios the median counts. Half a
microsecond is added for each time that a count was rounded down, and as much may be missing or too
much: the spread of a price has room for it. What the runtime says was not executed may have taken
less than a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from math import hypot
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
from openvino import opset13 as ops

from evaluation.measuring.operators import FLOOR, YARDSTICK, Operator, Price
from evaluation.measuring.sampling import Call

Compile = Callable[..., ov.CompiledModel]

MODELS = 6
YARDSTICKS = 2
TURNS = 15
IN_A_ROW = 12  # calls of a model: the first of them find another's data in the caches
LEADS, COUNTED = 4, 4  # calls of what runs beside it
ROUNDED_MS = 0.001  # twice down, by half a microsecond
NOT_RUN = "not_executed"


def operators(compiled: ov.CompiledModel) -> tuple[Operator, ...]:
    """What is executed, in order."""
    return tuple(operator for _, operator in _executed(compiled))


def _executed(compiled: ov.CompiledModel) -> Iterator[tuple[Any, Operator]]:
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {k: v.astype(str) for k, v in node.get_rt_info().items() if hasattr(v, "astype")}
        if facts["layerType"] in ("Input", "Const", "Output", "Parameter", "Result"):
            continue
        yield node, _operator(node, facts)


def _operator(node: Any, facts: dict[str, str]) -> Operator:
    read = [[str(i.get_element_type()), str(i.get_partial_shape())] for i in node.inputs()]
    written = [[str(o.get_element_type()), str(o.get_partial_shape())] for o in node.outputs()]
    fused = facts["originalLayersNames"].count(",")
    told = [facts["primitiveType"], facts["outputLayouts"], facts["outputPrecisions"], fused]
    shape = " ".join(shape.strip("[]").replace(",", "x") or "1" for _, shape in read)
    return Operator.of(facts["layerType"], shape, facts["runtimePrecision"], [*told, read, written])


def prices(
    compile_: Compile, feed: Sequence[Any], keys: Sequence[str], reference: Callable[[], Call]
) -> dict[str, Price]:
    """Prices of those keys, of the reference and of the floor, over a few compilations of both."""
    wanted = {*keys, FLOOR}
    ratios: dict[str, list[float]] = {}
    paces = []
    floor, yardsticks = _floor(), [reference() for _ in range(YARDSTICKS)]
    for _, yardstick in zip(range(MODELS), cycle(yardsticks), strict=False):
        beside = {YARDSTICK: yardstick, FLOOR: floor}
        counts = _counted(compile_(PERF_COUNT=True), feed, beside)
        paces.append(counts[0][1])
        for key, took in counts:
            if key in wanted:
                ratios.setdefault(key, []).append(took / paces[-1])
    pace = median(paces)
    priced = {key: _price(found, pace) for key, found in ratios.items()}
    return {**priced, YARDSTICK: Price(pace, 0.0)}


def _counted(
    compiled: ov.CompiledModel, feed: Sequence[Any], beside: Mapping[str, Call]
) -> list[tuple[str, float]]:
    """Means of what ran beside a model, then what each of the model's operators took."""
    request = compiled.create_infer_request()
    means = _run(partial(request.infer, list(feed), share_inputs=True), list(beside.values()))
    counts = list(zip(beside, means, strict=True))
    for node, operator in _executed(compiled):
        count = node.get_rt_info()["execTimeMcs"].astype(str)
        counts.append((operator.key, 0.0 if count == NOT_RUN else int(count) * 1e-3 + ROUNDED_MS))
    return counts


def _price(ratios: Sequence[float], pace: float) -> Price:
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return Price(float(middle) * pace, hypot(float(high - low) * pace, ROUNDED_MS))


def _run(model: Call, others: Sequence[Call]) -> list[float]:
    """Run a model often, in turns with others; the means of these."""
    times = np.zeros(len(others))
    for _ in range(TURNS):
        for _ in range(IN_A_ROW):
            model()
        times += [_took(other) for other in others]
    return [float(mean) for mean in times / TURNS]


def _took(call: Call) -> float:
    """Milliseconds a call, after some that do not count: to change models takes time."""
    for _ in range(LEADS):
        call()
    start = perf_counter()
    for _ in range(COUNTED):
        call()
    return (perf_counter() - start) * 1e3 / COUNTED


def _floor() -> Call:
    """One number made positive."""
    x = ops.parameter([1, 1], np.float32)
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.Model([ops.relu(x)], [x], "floor")
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    value = np.ones((1, 1), np.float32)
    return lambda: request.infer([value], share_inputs=True, share_outputs=True)
