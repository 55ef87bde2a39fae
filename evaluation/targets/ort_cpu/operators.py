"""What ONNX Runtime makes of a file, operator by operator, and what each of them takes.

The operators are those of the graph that the runtime saves after all its optimisations. Each is
priced in a model of its own that holds it many times over, each time with weights of its own, less
a model that holds it once: what is left is free of what a run costs whatever it computes. Inputs
are the values that the whole model really hands on. The runtime's own profiler is of no use here:
it takes longer than the operators it measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
from onnx import NodeProto, TensorProto, helper, numpy_helper

from evaluation.measuring.operators import YARDSTICK, Operator, Price
from evaluation.measuring.runner import Array
from evaluation.measuring.sampling import Call, Effort, take
from evaluation.targets.ort_cpu.session import open_file, session_options

COPIES = 9
TOGETHER = 16  # operators whose models are open at once
EFFORT = Effort(least=11, most=25, seconds=0.02, sample_ms=0.25, warm_seconds=0.02, burst_least=0)
MOST_RUNS = 4  # while the machine is unsteady
STEADY = 1.08  # of the yardstick's times, the third quarter's end by the first's
SHARED = 64  # numbers of a constant up to which all copies read one


@dataclass(frozen=True)
class Taken:
    """An optimised graph, and the values that its nodes read."""

    model: onnx.ModelProto
    constants: Mapping[str, TensorProto]
    values: Mapping[str, Array]

    def operators(self) -> tuple[Operator, ...]:
        """Its nodes, in order."""
        return tuple(self._operator(node) for node in self.model.graph.node)

    def _operator(self, node: NodeProto) -> Operator:
        facts = {a.name: str(helper.get_attribute_value(a)) for a in node.attribute}
        read = [self._described(name) for name in node.input]
        shape = " ".join("x".join(map(str, d[2])) or "1" for d in read if d and d[2])
        types = [d[1] for d in read if d]
        precision = (
            "float" if set(types) <= {"float32", "int64"} else "+".join(dict.fromkeys(types))
        )
        return Operator.of(node.op_type, shape, precision, [node.domain, facts, read])

    def _described(self, name: str) -> list[Any] | None:
        if not name:
            return None
        constant = self.constants.get(name)
        value = self.values[name] if constant is None else numpy_helper.to_array(constant)
        told = value.dtype == np.int64 and value.size <= 8  # axes and shapes, which are no weights
        kind = "value" if constant is None else "constant"
        return [kind, str(value.dtype), list(value.shape), value.tolist() if told else None]


def taken(path: Path, threads: int, batch: int) -> Taken:
    """What the runtime runs for a batch of made-up inputs."""
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "optimised.onnx"
        feed = open_file(path, threads, dump).made_up(batch)
        model = onnx.load(str(dump))
    constants = {i.name: i for i in model.graph.initializer}
    return Taken(model, constants, {**feed, **_handed_on(model, feed, threads)})


def _handed_on(model: onnx.ModelProto, feed: dict[str, Array], threads: int) -> dict[str, Array]:
    """Every tensor between two nodes, as it is."""
    told = onnx.ModelProto()
    told.CopyFrom(model)
    names = list(dict.fromkeys(o for node in model.graph.node for o in node.output if o))
    del told.graph.output[:]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _as_it_is(told, threads)
    return dict(zip(names, session.run(names, feed), strict=True))


def prices(found: Taken, keys: Sequence[str], threads: int) -> dict[str, Price]:
    """A price for every key that can be priced alone, and the yardstick's."""
    nodes = dict(zip((o.key for o in found.operators()), found.model.graph.node, strict=True))
    wanted = iter([(key, nodes[key]) for key in dict.fromkeys(keys) if key in nodes])
    yardstick = _yardstick(threads)
    lengths: list[float] = []
    priced: dict[str, Price] = {}
    while chunk := list(islice(wanted, TOGETHER)):
        pairs = {key: pair for key, node in chunk if (pair := _pair(found, node, threads))}
        calls = [yardstick, *(call for pair in pairs.values() for call in pair)]
        columns = _calmest(calls)
        lengths += columns[0].tolist()
        for place, key in enumerate(pairs):
            many, one = columns[1 + 2 * place], columns[2 + 2 * place]
            priced[key] = _price((many - one) / (COPIES - 1))
    return {**priced, YARDSTICK: _price(np.array(lengths or [1.0]))}


def _calmest(calls: Sequence[Call]) -> list[Array]:
    """Every call's samples in the first run in which the yardstick was steady, or the steadiest."""
    runs: list[tuple[float, list[Array]]] = []
    for _ in range(MOST_RUNS):
        columns = [np.array(column) for column in take(calls, EFFORT).rounds]
        low, high = np.quantile(columns[0], [0.25, 0.75])
        runs.append((float(high / low), columns))
        if runs[-1][0] <= STEADY:
            break
    return min(runs, key=lambda run: run[0])[1]


def _price(samples: Array) -> Price:
    """The lower quartile, which what else runs on the machine hardly touches."""
    low, price, high = np.quantile(samples, [0.1, 0.25, 0.5])
    return Price(max(float(price), 0.0), float(high - low) / float(np.sqrt(len(samples))))


def _pair(found: Taken, node: NodeProto, threads: int) -> tuple[Call, Call] | None:
    """Runs of the node many times over and once; None where it cannot stand alone."""
    feed = {n: found.values[n] for n in node.input if n and n not in found.constants}
    try:
        many, one = (_as_it_is(_alone(found, node, n), threads) for n in (COPIES, 1))
        one.run(None, feed)
    except Exception as error:  # onnxruntime's errors share no base class
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    last = [many.get_outputs()[-1].name], [one.get_outputs()[-1].name]  # to hand over takes time
    return (lambda: many.run(last[0], feed)), (lambda: one.run(last[1], feed))


def _alone(found: Taken, node: NodeProto, copies: int) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, _type(found.values[name]), found.values[name].shape)
        for name in dict.fromkeys(node.input)
        if name and name not in found.constants
    ]
    nodes, weights = [], {}
    for copy in range(copies):
        made = NodeProto()
        made.CopyFrom(node)
        made.name = f"copy{copy}"
        for place, name in enumerate(node.input):
            if name in found.constants:
                weight = TensorProto()
                weight.CopyFrom(found.constants[name])
                weight.name = f"{name}/{copy if np.prod(weight.dims) > SHARED else ''}"
                weights[weight.name] = weight
                made.input[place] = weight.name
        made.output[:] = [o and f"{o}/{copy}" for o in node.output]
        nodes.append(made)
    outputs = [onnx.ValueInfoProto(name=o) for made in nodes for o in made.output if o]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights.values()))
    return helper.make_model(
        graph, opset_imports=found.model.opset_import, ir_version=found.model.ir_version
    )


def _type(value: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(value.dtype))


def _yardstick(threads: int) -> Call:
    """A product of matrices that takes some hundred microseconds."""
    chance = np.random.default_rng(0)
    left, right = (chance.standard_normal((160, 160)).astype(np.float32) for _ in range(2))
    kind = helper.make_tensor_value_info("x", TensorProto.FLOAT, left.shape)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = numpy_helper.from_array(right, "w")
    graph = helper.make_graph([node], "g", [kind], [onnx.ValueInfoProto(name="y")], [weight])
    opsets = [helper.make_opsetid("", 17)]
    session = _as_it_is(helper.make_model(graph, opset_imports=opsets, ir_version=8), threads)
    return lambda: session.run(None, {"x": left})


def _as_it_is(model: onnx.ModelProto, threads: int) -> Any:
    options = session_options(threads, optimise=False)
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)
