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

from evaluation.measuring.operators import FLOOR, YARDSTICK, Operator, Price
from evaluation.measuring.runner import Array
from evaluation.measuring.sampling import Call, Effort, take
from evaluation.targets.ort_cpu.session import open_file, session_options

COPIES = 9
CHAIN = 8
TOGETHER = 16  # operators whose models are open at once
EFFORT = Effort(
    least=21,
    most=41,
    seconds=0.04,
    sample_ms=0.25,
    lead_ms=0,
    warm_seconds=0.02,
    burst_least=0,
)
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
    """A price for every key that can be priced alone, the yardstick's and the floor."""
    nodes = dict(zip((o.key for o in found.operators()), found.model.graph.node, strict=True))
    wanted = iter([(key, nodes[key]) for key in dict.fromkeys(keys) if key in nodes])
    yardstick, floor = _yardstick(threads), _floor(threads)
    paces: list[float] = []
    told: dict[str, Array] = {FLOOR: np.empty(0)}  # in the yardstick's time beside each
    while chunk := list(islice(wanted, TOGETHER)):
        pairs = {key: pair for key, node in chunk if (pair := _pair(found, node, threads))}
        block = take(
            [yardstick, floor, *(call for pair in pairs.values() for call in pair)], EFFORT
        )
        paces += block.rounds[0]
        told[FLOOR] = np.append(told[FLOOR], block.ratios(1))
        for place, key in enumerate(pairs):
            many, one = (np.array(block.ratios(column + 2 * place)) for column in (2, 3))
            told[key] = (many - one) / (COPIES - 1)
    pace = float(np.median(paces)) if paces else 1.0
    priced = {key: _price(ratios, pace) for key, ratios in told.items() if len(ratios)}
    return {**priced, YARDSTICK: Price(pace, 0.0)}


def _price(ratios: Array, pace: float) -> Price:
    """The median of differences of neighbours, which what else runs hardly touches."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    spread = float(high - low) / float(np.sqrt(len(ratios)))
    return Price(max(float(middle), 0.0) * pace, spread * pace)


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
    """Small convolutions in a row: what slows networks down slows them, and about as much."""
    chance = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    for place in range(CHAIN):
        weight = chance.standard_normal((24, 24, 3, 3), np.float32) / 15
        weights.append(numpy_helper.from_array(weight, f"w{place}"))
        made = (f"c{place}", f"r{place}")
        nodes.append(helper.make_node("Conv", [name, f"w{place}"], [made[0]], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [made[0]], [name := made[1]]))
    return _small(nodes, chance.standard_normal((1, 24, 12, 12), np.float32), weights, threads)


def _floor(threads: int) -> Call:
    """One number made positive."""
    return _small(
        [helper.make_node("Relu", ["x"], ["y"])], np.ones((1, 1), np.float32), [], threads
    )


def _small(nodes: list[NodeProto], x: Array, weights: list[TensorProto], threads: int) -> Call:
    kind = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    result = onnx.ValueInfoProto(name=nodes[-1].output[0])
    graph = helper.make_graph(nodes, "g", [kind], [result], weights)
    opsets = [helper.make_opsetid("", 17)]
    session = _as_it_is(helper.make_model(graph, opset_imports=opsets, ir_version=8), threads)
    return lambda: session.run(None, {"x": x})


def _as_it_is(model: onnx.ModelProto, threads: int) -> Any:
    options = session_options(threads, optimise=False)
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)
