"""Writes a plan into a graph as QuantizeLinear/DequantizeLinear pairs.

That is the form that runtimes turn into integer kernels: a layer between pairs runs in integers.
Biases of convolutions stay float in the file; ONNX Runtime (from 1.21) makes them 32-bit integers
of the scale that its kernels want, which takes fewer bytes than storing those scales. For a Gemm
it wants them as integers already.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from evaluation.lowering.graph import Graph
from evaluation.lowering.plan import SAME_SCALE, Plan, QuantizedLayer, Scale


def write(graph: Graph, plan: Plan) -> Graph:
    """The graph with the plan's layers, and what lies between them, in integers."""
    return _Writer(graph, plan).write()


def write_layers_only(graph: Graph, plan: Plan) -> Graph:
    """The graph as it is simulated: layers see quantised inputs and weights, the rest is float."""
    return _Writer(graph, Plan(plan.layers, integer=set(plan.layers))).write()


class _Writer:
    """Goes through the nodes once; knows which tensors are there in float and which as integers."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.old = graph
        self.plan = plan
        self.new = Graph([], dict(graph.constants), graph.inputs, graph.outputs, graph._numbers)
        self.float_of = {i.name: i.name for i in graph.inputs}
        self.stored: dict[str, dict[Scale, str]] = {}  # tensor -> its dequantised names by scale
        self.absorbed = {after for before, after in plan.results.items() if after != before}

    def write(self) -> Graph:
        for node in self.old.nodes:
            if node.output[0] not in self.absorbed:
                self._node(node)
        for output in self.old.outputs:
            self._give_back(output.name)
        return self.new

    def _node(self, node: NodeProto) -> None:
        layer = self.plan.layers.get(id(node))
        if layer is not None:
            source = self._as_integers(node.input[0], layer.source)
            self._emit(node, [source, self._weights(node, layer), *self._bias(node, layer)])
        elif id(node) in self.plan.integer:
            self._emit(node, [self._as_stored(name) for name in node.input])
        else:
            self._emit(node, [self._as_float(name) for name in node.input])

    def _emit(self, node: NodeProto, inputs: list[str]) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.new.nodes.append(copy)
        result = self.plan.results.get(node.output[0])
        if result is None:
            self.float_of.update((name, name) for name in node.output)
            return
        copy.output[:] = [self.new.fresh()]
        if node.op_type in SAME_SCALE:
            scale = next(iter(self.stored[node.input[0]]))
        else:
            scale = self.plan.scales[result]
        self.stored[result] = {scale: self._pair(copy.output[0], scale)}

    def _as_integers(self, tensor: str, scale: Scale) -> str:
        """The tensor, dequantised from the integers of that scale."""
        there = self.stored.setdefault(tensor, {})
        if scale not in there:
            source = self._as_float(tensor)
            there[scale] = self._pair(self._apart(source) if there else source, scale)
        return there[scale]

    def _apart(self, tensor: str) -> str:
        """The same tensor; keeps the runtime from merging a pair with one of another scale.

        Merged, the layer would read its input with a scale that its integer bias is not made for.
        """
        same = self.new.fresh()
        self.new.nodes.append(helper.make_node("LeakyRelu", [tensor], [same], alpha=1.0))
        return same

    def _as_stored(self, tensor: str) -> str:
        """The tensor, dequantised from whatever integers it is kept in; constants as they are."""
        if tensor in self.old.constants or not tensor:
            return tensor
        if tensor not in self.stored:
            scale = self._scale_ahead(tensor)
            return self._as_integers(tensor, scale)
        return next(iter(self.stored[tensor].values()))

    def _scale_ahead(self, tensor: str) -> Scale:
        """The scale of the layer further on that will read a float tensor as integers."""
        for node in self.old.consumers(tensor):
            layer = self.plan.layers.get(id(node))
            if layer is not None and node.input[0] == tensor:
                return layer.source
        raise AssertionError(f"nothing reads {tensor} as integers")

    def _as_float(self, tensor: str) -> str:
        if tensor in self.old.constants or not tensor:
            return tensor
        if tensor in self.float_of:
            return self.float_of[tensor]
        return next(iter(self.stored[tensor].values()))

    def _pair(self, tensor: str, scale: Scale) -> str:
        integers, back = self.new.fresh(), self.new.fresh()
        facts = [
            self._constant(np.array(scale.scale, np.float32)),
            self._constant(np.array(scale.zero_point, np.uint8)),
        ]
        self.new.nodes += [
            helper.make_node("QuantizeLinear", [tensor, *facts], [integers]),
            helper.make_node("DequantizeLinear", [integers, *facts], [back]),
        ]
        return back

    def _weights(self, node: NodeProto, layer: QuantizedLayer) -> str:
        """The integer weights, dequantised per output channel, laid out as the node reads them."""
        turned = node.op_type == "MatMul"
        values = layer.weights.T if turned else layer.weights
        names = [self._constant(values), self._constant(layer.weight_scales)]
        if node.op_type != "Conv":  # whose kernel alone takes a missing zero point for 0
            names.append(self._constant(np.zeros(len(layer.weight_scales), np.int8)))
        back = self.new.fresh()
        axis = 1 if turned else 0
        read = helper.make_node("DequantizeLinear", names, [back], axis=axis)
        if axis == 1:
            del read.attribute[:]  # the default
        self.new.nodes.append(read)
        return back

    def _bias(self, node: NodeProto, layer: QuantizedLayer) -> list[str]:
        names = list(node.input[2:])
        if node.op_type != "Gemm" or not names:
            return names
        scales = (layer.weight_scales * np.float32(layer.source.scale)).astype(np.float32)
        bound = 2.0**31 - 1
        units = np.round(self.old.constants[names[0]].astype(np.float64) / scales)
        integers = np.clip(units, -bound, bound).astype(np.int32)
        product, back = self.new.fresh(), self.new.fresh()
        factors = [
            self._constant(layer.weight_scales),
            self._constant(np.float32(layer.source.scale)),
        ]
        facts = [self._constant(integers), product]
        self.new.nodes += [  # computed once, as a session is made, and not stored
            helper.make_node("Mul", factors, [product]),
            helper.make_node("DequantizeLinear", facts, [back], axis=0),
        ]
        return [back]

    def _constant(self, value: np.ndarray) -> str:
        name = self.new.fresh()
        self.new.constants[name] = value
        return name

    def _give_back(self, output: str) -> None:
        """An output must be written, in float, under its own name."""
        there = self._as_float(output)
        if there == output:
            return
        for node in self.new.nodes:
            node.input[:] = [output if name == there else name for name in node.input]
            node.output[:] = [output if name == there else name for name in node.output]
