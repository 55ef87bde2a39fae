"""What OpenVINO makes of a file, operator by operator, and what each of them takes.

The operators are those of the compiled model's own account of what it executes. They are priced
where they stand: the runtime counts the time of each while the whole model runs, at a cost that
the whole hardly feels. Its counts are means of whole microseconds since the model was compiled, so
a model is compiled a few times and the least of its means is taken, and half a microsecond added
for each time that it was rounded down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
from openvino import opset13 as ops

from evaluation.measuring.operators import YARDSTICK, Operator, Price

Compile = Callable[..., ov.CompiledModel]

MODELS = 4
RUNS = 40
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
    """Prices of those keys, and the yardstick's, over a few compilations."""
    wanted = set(keys)
    found: dict[str, list[float]] = {}
    paces = []
    for _ in range(MODELS):
        compiled = compile_(PERF_COUNT=True)
        paces.append(_run(compiled, feed))
        for node, operator in _executed(compiled):
            count = node.get_rt_info()["execTimeMcs"].astype(str)
            if operator.key in wanted:
                took = 0.0 if count == NOT_RUN else int(count) * 1e-3 + ROUNDED_MS
                found.setdefault(operator.key, []).append(took)
    priced = {key: _price(counts) for key, counts in found.items()}
    return {**priced, YARDSTICK: _price(paces)}


def _price(counts: Sequence[float]) -> Price:
    return Price(min(counts), (median(counts) - min(counts)) / 2)


def _run(compiled: ov.CompiledModel, feed: Sequence[Any]) -> float:
    """Run a model often, in turns with the yardstick; the yardstick's quarter of quiet times."""
    request, yardstick = compiled.create_infer_request(), _yardstick()
    times = []
    for _ in range(RUNS):
        request.infer(list(feed), share_inputs=True, share_outputs=True)
        start = perf_counter()
        yardstick()
        times.append((perf_counter() - start) * 1e3)
    return float(np.quantile(times, 0.25))


def _yardstick() -> Callable[[], object]:
    """A product of matrices that takes some hundred microseconds."""
    chance = np.random.default_rng(0)
    left, right = (chance.standard_normal((160, 160)).astype(np.float32) for _ in range(2))
    x = ops.parameter(left.shape, np.float32)
    model = ov.Model([ops.matmul(x, ops.constant(right), False, False)], [x], "yardstick")
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)
