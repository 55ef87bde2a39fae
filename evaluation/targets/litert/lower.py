"""From a compressed model to a .tflite file that does the same with LiteRT's kernels.

The float graph, without its arithmetic on shapes; the integers of the simulation; the plan of what
stays in integers, its missing ranges seen on the calibration split; then operator by operator.
"""

from __future__ import annotations

from collections.abc import Mapping

from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from onnx import NodeProto

from compressors.data import Data
from compressors.record import CompressedModel
from evaluation.lowering.graph import alive
from evaluation.lowering.lower import float_graph, quantized_layers, ranges
from evaluation.lowering.plan import Plan
from evaluation.targets.litert import layers, moves, norms, operators, upsampling
from evaluation.targets.litert.integers import past_rectifier, plan
from evaluation.targets.litert.operators import Handler, binary, unary
from evaluation.targets.litert.refusal import refuse
from evaluation.targets.litert.simplify import GELU, simplify
from evaluation.targets.litert.sizes import resolve
from evaluation.targets.litert.weights import besides, round_weights
from evaluation.targets.litert.wires import Wires

HANDLERS: Mapping[str, Handler] = {
    "Add": binary("ADD", schema.AddOptionsT),
    "AveragePool": operators.pool,
    "BatchNormalization": norms.batch_norm,
    "Cast": moves.cast,
    "Clip": operators.clip,
    "Concat": moves.concat,
    "Conv": layers.convolution,
    "ConvTranspose": upsampling.transposed_convolution,
    "Div": binary("DIV", schema.DivOptionsT),
    "Exp": unary("EXP"),
    "Expand": moves.expand,
    "Flatten": moves.reshape,
    "Gather": moves.gather,
    GELU: unary("GELU"),
    "Gemm": layers.linear,
    "GlobalAveragePool": operators.mean,
    "HardSwish": unary("HARD_SWISH"),
    "LayerNormalization": norms.layer_norm,
    "LeakyRelu": operators.leaky,
    "Log": unary("LOG"),
    "MatMul": operators.matmul,
    "MaxPool": operators.pool,
    "Mul": binary("MUL", schema.MulOptionsT),
    "Neg": unary("NEG"),
    "Pow": binary("POW"),
    "ReduceMean": operators.mean,
    "Relu": unary("RELU"),
    "Reshape": moves.reshape,
    "Sigmoid": unary("LOGISTIC"),
    "Slice": moves.slices,
    "Softmax": operators.softmax,
    "Split": moves.split,
    "Sqrt": unary("SQRT"),
    "Squeeze": moves.reshape,
    "Sub": binary("SUB", schema.SubOptionsT),
    "Tanh": unary("TANH"),
    "Transpose": moves.transpose,
    "Unsqueeze": moves.reshape,
}


def lower(compressed: CompressedModel, data: Data) -> tuple[bytes, str]:
    """The file, and its signature."""
    graph, factors, described = float_graph(compressed)
    beside = besides(described, factors)
    round_weights(graph, beside)
    fixed = {name: facts for name, facts in described.items() if name not in beside}
    quantized = quantized_layers(graph, fixed, factors)
    bits = {name: facts.weight_bits or 8 for name, facts in described.items()}
    resolved, sizes = resolve(graph, compressed.example)
    simple = simplify(resolved)
    integers = plan(simple, quantized)
    layered = {id(n): quantized[n.name] for n in graph.nodes if n.name in quantized}
    seen = ranges(graph, Plan(layered, glue=integers.glue), data)
    integers.set_glue(simple, seen)
    return _write(Wires(simple, sizes, integers, beside, bits))


def _write(wires: Wires) -> tuple[bytes, str]:
    graph, file = wires.graph, wires.file
    inputs = [wires.write(value.name) for value in graph.inputs]
    ends = [past_rectifier(graph, node) for node in graph.nodes]
    absorbed = {result for result, rectifier in ends if rectifier is not None}
    for node in alive(graph):
        if node.output[0] not in absorbed:
            HANDLERS.get(node.op_type, _unknown)(wires, node)
    outputs = [wires.read(value.name) for value in graph.outputs]
    return file.to_bytes(inputs, outputs), file.signature(inputs, outputs)


def _unknown(wires: Wires, node: NodeProto) -> None:
    del wires
    refuse(node)
