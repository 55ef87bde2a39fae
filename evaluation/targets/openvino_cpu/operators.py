"""What OpenVINO makes of a file, operator by operator, and what each of them takes.

The operators are those of the compiled model's own account of what it executes. They are priced
where they stand: the runtime counts the time of each while the whole model runs, at a cost that
the whole hardly feels. Its counts are means of whole microseconds since the model was compiled, and
the machine's pace changes meanwhile: each is held against the mean of a yardstick that runs in
turns with the model, a model is compiled a few times, and of these ratios the median counts. Half a
microsecond is added for each time that a count was rounded down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
from openvino import opset13 as ops

from evaluation.measuring.operators import FLOOR, YARDSTICK, Operator, Price
from evaluation.measuring.sampling import Call

Compile = Callable[..., ov.CompiledModel]

MODELS = 7
TURNS = 30
IN_A_ROW = 4
CHAIN = 8
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


def prices(compile_: Compile, feed: Sequence[Any], keys: Sequence[str]) -> dict[str, Price]:
    """Prices of those keys, the yardstick's and the floor, over a few compilations."""
    wanted = set(keys)
    found: dict[str, list[float]] = {FLOOR: []}
    paces = []
    yardstick, least = _yardstick(), _floor()
    for _ in range(MODELS):
        compiled = compile_(PERF_COUNT=True)
        request = compiled.create_infer_request()
        pace, floor = _run(partial(request.infer, list(feed), share_inputs=True), yardstick, least)
        paces.append(pace)
        found[FLOOR].append(floor / pace)
        for node, operator in _executed(compiled):
            count = node.get_rt_info()["execTimeMcs"].astype(str)
            if operator.key in wanted:
                took = 0.0 if count == NOT_RUN else int(count) * 1e-3 + ROUNDED_MS
                found.setdefault(operator.key, []).append(took / pace)
    pace = median(paces)
    return {
        **{key: _price(ratios, pace) for key, ratios in found.items()},
        YARDSTICK: Price(pace, 0),
    }


def _price(ratios: Sequence[float], pace: float) -> Price:
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return Price(float(middle) * pace, float(high - low) * pace)


def _run(model: Call, yardstick: Call, floor: Call) -> tuple[float, float]:
    """Run a model often, in turns with the yardstick and the floor; the means of these two."""
    times = np.zeros(2)
    for _ in range(TURNS):
        for _ in range(IN_A_ROW):
            model()
        times += _took(yardstick), _took(floor)
    pace, least = times / TURNS
    return float(pace), float(least)


def _took(call: Call) -> float:
    """Milliseconds a call, after one that does not count: to change models takes time."""
    call()
    start = perf_counter()
    for _ in range(IN_A_ROW):
        call()
    return (perf_counter() - start) * 1e3 / IN_A_ROW


def _yardstick() -> Call:
    """Small convolutions in a row: what slows networks down slows them, and about as much."""
    chance = np.random.default_rng(0)
    value = chance.standard_normal((1, 24, 12, 12), np.float32)
    x = y = ops.parameter(value.shape, np.float32)
    for _ in range(CHAIN):
        weights = ops.constant(chance.standard_normal((24, 24, 3, 3), np.float32) / 15)
        y = ops.relu(ops.convolution(y, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    return _call(y, x, value)


def _floor() -> Call:
    """One number made positive."""
    x = ops.parameter([1, 1], np.float32)
    return _call(ops.relu(x), x, np.ones((1, 1), np.float32))


def _call(result: Any, x: Any, value: Any) -> Call:
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(ov.Model([result], [x], "small"), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([value], share_inputs=True, share_outputs=True)
