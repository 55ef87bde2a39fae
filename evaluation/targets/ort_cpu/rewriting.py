"""Which form each quantised layer takes in an ONNX file for this target.

Layers of fixed ranges are integers already when they come here; if their weights have fewer than
eight bits, the file holds them packed. The others are still float nodes: linear ones with dynamic
activations, or with weights of widths that MatMulNBits takes, become those kernels; the rest reads
floats that are made of packed codes as the session is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto

from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.graph import Array, Graph
from evaluation.targets.ort_cpu.codes import Codes
from evaluation.targets.ort_cpu.matmuls import write_dynamic, write_weight_only
from evaluation.targets.ort_cpu.packing import Pool, Sort, Steps

LINEAR = ("Gemm", "MatMul")
COMPUTED = (*LINEAR, "Conv", "ConvTranspose")
INTEGER_BITS = 8


@dataclass(frozen=True)
class Forms:
    """Puts layers into their forms; with `round_inputs`, weight-only kernels round theirs."""

    round_inputs: bool = False

    def __call__(
        self,
        graph: Graph,
        described: Mapping[str, LayerQuantization],
        factors: Mapping[str, Array],
    ) -> None:
        """Rewrite a graph in which layers of fixed ranges are integers, in place."""
        writer = _Writer(graph, self.round_inputs)
        for name, facts in described.items():
            for node in list(layer_nodes(graph, name)):
                writer.layer(node, facts, factors.get(f"{name}.weight"))
        writer.finish()


def layer_nodes(graph: Graph, name: str) -> Iterator[NodeProto]:
    """The nodes that compute a layer; those of a table have no name."""
    for node in graph.nodes:
        looked_up = node.op_type == "Gather" and node.input[0] == f"{name}.weight"
        if looked_up or (node.name == name and node.op_type in COMPUTED):
            yield node


@dataclass
class _Writer:
    graph: Graph
    round_inputs: bool
    integers: dict[str, list[str]] = field(default_factory=dict)
    pools: dict[Sort, Pool] = field(default_factory=dict)
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = Steps(self.graph)

    def layer(self, node: NodeProto, facts: LayerQuantization, factors: Array | None) -> None:
        if facts.weight_bits is None:
            return
        if facts.scale is not None:
            self._pack_integers(node, facts.weight_bits)
            return
        weight = Codes.of(facts, factors)
        linear = node.op_type in LINEAR
        if linear and facts.dynamic:
            self._dynamic(node, weight)
        elif linear and self._has_kernel(weight):
            write_weight_only(self.graph, node, weight, round_inputs=self.round_inputs)
        else:
            self._expand(node, weight)

    def _has_kernel(self, weight: Codes) -> bool:
        return weight.bits == 4 or (weight.bits == 8 and self.round_inputs)

    def finish(self) -> None:
        """Put what runs once before everything else."""
        pools = [node for pool in self.pools.values() for node in pool.write()]
        self.graph.nodes[:0] = [*pools, *self.steps.nodes]

    def _pooled(self, codes: Array, bits: int, zero: int, kind: int) -> str:
        sort = Sort(bits, kind, zero)
        return self.pools.setdefault(sort, Pool(self.graph, sort)).add(codes)

    def _dynamic(self, node: NodeProto, weight: Codes) -> None:
        write_dynamic(self.graph, node, weight, self.integers)
        if weight.bits < INTEGER_BITS:
            made = next(n for n in self.graph.nodes if list(n.output) == list(node.output))
            made.input[1] = self._integers(self.graph.constants[made.input[1]], weight.bits)

    def _pack_integers(self, node: NodeProto, bits: int) -> None:
        read = self.graph.producer(node.input[1])
        if bits < INTEGER_BITS and read is not None and read.input[0] in self.graph.constants:
            read.input[0] = self._integers(self.graph.constants[read.input[0]], bits)

    def _integers(self, values: Array, bits: int) -> str:
        """The tensor of signed bytes that is stored in so few bits."""
        highest = 2 ** (bits - 1) - 1
        flat = self._pooled(values + highest, bits, highest, TensorProto.INT8)
        return self._reshaped(flat, values.shape)

    def _expand(self, node: NodeProto, weight: Codes) -> None:
        """Let a node read float weights that are made from codes."""
        made = self._by_rows(weight) if weight.scales.shape[1] == 1 else self._by_groups(weight)
        order = list(range(1, len(weight.shape)))
        order.insert(weight.axis, 0)
        if node.op_type == "MatMul":
            order.reverse()
        if order != sorted(order):
            made = self.steps.make("Transpose", made, perm=order)
        node.input[0 if node.op_type == "Gather" else 1] = made

    def _by_rows(self, weight: Codes) -> str:
        """The weight, output channels first, of scales that hold for whole rows."""
        ones = (1,) * (len(weight.shape) - 1)
        laid = self._reshaped(self._units(weight, weight.codes), _rows_first(weight))
        return self._scaled(laid, weight, (len(weight.scales), *ones))

    def _by_groups(self, weight: Codes) -> str:
        """The same of scales for groups; rows are filled up where their last is not whole."""
        rows, groups = weight.rows, weight.scales.shape[1]
        missing = -weight.columns % weight.group
        codes = np.pad(weight.codes, ((0, 0), (0, missing)))
        laid = self._reshaped(self._units(weight, codes), (rows, groups, weight.group))
        values = self._scaled(laid, weight, (len(weight.scales), groups, 1))
        if missing:
            values = self._reshaped(values, (rows, groups * weight.group))
            ends = (np.array([n], np.int64) for n in (0, weight.columns, 1))
            values = self.steps.make("Slice", values, *(self.steps.constant(end) for end in ends))
        return self._reshaped(values, _rows_first(weight))

    def _units(self, weight: Codes, codes: Array) -> str:
        """Codes as floats; of symmetric weights less the one zero."""
        zero = int(weight.zeros[0, 0]) if weight.symmetric else 0
        return self._pooled(codes, weight.bits, zero, TensorProto.FLOAT)

    def _scaled(self, laid: str, weight: Codes, shape: tuple[int, ...]) -> str:
        steps = self.steps
        if not weight.symmetric:
            less = weight.zeros.astype(np.float32).reshape(shape)
            laid = steps.make("Sub", laid, steps.constant(less))
        return steps.make("Mul", laid, steps.constant(weight.scales.reshape(shape)))

    def _reshaped(self, tensor: str, shape: tuple[int, ...]) -> str:
        wanted = self.steps.constant(np.array(shape, np.int64))
        return self.steps.make("Reshape", tensor, wanted)


def _rows_first(weight: Codes) -> tuple[int, ...]:
    before, after = weight.shape[: weight.axis], weight.shape[weight.axis + 1 :]
    return (weight.rows, *before, *after)
