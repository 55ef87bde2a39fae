"""What OpenVINO makes of a file, operator by operator, and what each of them takes.

The operators are those of the compiled model's own account of what it executes. They are priced
where they stand: the runtime counts the time of each while the whole model runs, at a cost that
the whole hardly feels. Its counts are means of whole microseconds since the model was compiled, and
the machine's pace changes meanwhile: each is held against the mean of a yardstick that runs in
turns with the model, integer operators against one of integers, for who shares a core slows those
down less. A model is compiled a few times, and of these ratios the median counts. Half a
microsecond is added for each time that a count was rounded down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
from openvino import opset13 as ops

from evaluation.measuring.operators import FLOOR, INTEGERS, YARDSTICK, Operator, Price
from evaluation.measuring.sampling import Call

Compile = Callable[..., ov.CompiledModel]

MODELS = 16
TURNS = 24
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
    """Prices of those keys, of yardsticks and of the floor, over a few compilations."""
    wanted = {*keys, FLOOR}
    beside = {FLOOR: _floor(), YARDSTICK: _yardstick(), INTEGERS: _yardstick(integers=True)}
    runs = [_counted(compile_(PERF_COUNT=True), feed, beside) for _ in range(MODELS)]
    typical = {key: median(paces[key] for _, paces in runs) for key in beside}
    ratios: dict[Operator, list[float]] = {}
    for counts, paces in runs:
        for operator, took in counts:
            if operator.key in wanted:
                ratios.setdefault(operator, []).append(took / paces[operator.yardstick])
    priced = {o.key: _price(found, typical[o.yardstick]) for o, found in ratios.items()}
    return {**priced, **{key: Price(typical[key], 0) for key in (YARDSTICK, INTEGERS)}}


def _counted(
    compiled: ov.CompiledModel, feed: Sequence[Any], beside: Mapping[str, Call]
) -> tuple[list[tuple[Operator, float]], dict[str, float]]:
    """What a model's operators took, the floor among them, and means of what ran beside it."""
    request = compiled.create_infer_request()
    means = _run(partial(request.infer, list(feed), share_inputs=True), list(beside.values()))
    paces = dict(zip(beside, means, strict=True))
    counts = [(Operator(FLOOR, FLOOR, "", ""), paces[FLOOR])]
    for node, operator in _executed(compiled):
        count = node.get_rt_info()["execTimeMcs"].astype(str)
        counts.append((operator, 0.0 if count == NOT_RUN else int(count) * 1e-3 + ROUNDED_MS))
    return counts, paces


def _price(ratios: Sequence[float], pace: float) -> Price:
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return Price(float(middle) * pace, float(high - low) * pace)


def _run(model: Call, others: Sequence[Call]) -> list[float]:
    """Run a model often, in turns with others; the means of these."""
    times = np.zeros(len(others))
    for _ in range(TURNS):
        for _ in range(IN_A_ROW):
            model()
        times += [_took(other) for other in others]
    return [float(mean) for mean in times / TURNS]


def _took(call: Call) -> float:
    """Milliseconds a call, after one that does not count: to change models takes time."""
    call()
    start = perf_counter()
    for _ in range(IN_A_ROW):
        call()
    return (perf_counter() - start) * 1e3 / IN_A_ROW


def _yardstick(*, integers: bool = False) -> Call:
    """Small convolutions in a row: what slows networks down slows them, and about as much."""
    chance = np.random.default_rng(0)
    value = chance.standard_normal((1, 24, 12, 12), np.float32)
    x = y = ops.parameter(value.shape, np.float32)
    for _ in range(CHAIN):
        weights = ops.constant(chance.standard_normal((24, 24, 3, 3), np.float32) / 15)
        if integers:
            y, weights = _rounded(y, 0.0, 4.0), _rounded(weights, -0.2, 0.2)
        y = ops.relu(ops.convolution(y, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    return _call(y, x, value)


def _rounded(values: Any, low: float, high: float) -> Any:
    """The values on 256 levels, or 255 around zero, as the runtime takes for integers."""
    ends = [np.array(end, np.float32) for end in (low, high)]
    return ops.fake_quantize(values, *ends, *ends, 256 if low == 0 else 255)


def _floor() -> Call:
    """One number made positive."""
    x = ops.parameter([1, 1], np.float32)
    return _call(ops.relu(x), x, np.ones((1, 1), np.float32))


def _call(result: Any, x: Any, value: Any) -> Call:
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(ov.Model([result], [x], "small"), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([value], share_inputs=True, share_outputs=True)
