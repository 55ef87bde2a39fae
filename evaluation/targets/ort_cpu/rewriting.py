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
from onnx import NodeProto

from compressors.quantization.layers import LayerQuantization
from evaluation.lowering.graph import Array, Graph
from evaluation.targets.ort_cpu.codes import Codes
from evaluation.targets.ort_cpu.matmuls import write_dynamic, write_weight_only
from evaluation.targets.ort_cpu.packing import Pool, Steps, as_floats, as_integers

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
    pools: dict[int, Pool] = field(default_factory=dict)
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
        pools = [node for _, pool in sorted(self.pools.items()) for node in pool.write()]
        self.graph.nodes[:0] = [*pools, *self.steps.nodes]

    def _pool(self, codes: Array, bits: int) -> str:
        return self.pools.setdefault(bits, Pool(self.graph, bits)).add(codes)

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
        steps = self.steps
        codes = as_integers(steps, self._pool((values + highest).astype(np.uint8), bits))
        moved = steps.make("Sub", codes, steps.constant(np.array(highest, np.int8)))
        return steps.make("Reshape", moved, steps.constant(np.array(values.shape, np.int64)))

    def _expand(self, node: NodeProto, weight: Codes) -> None:
        """Float weights from codes; rows are filled up where their last group is not whole."""
        rows, groups = weight.rows, weight.scales.shape[1]
        steps, missing = self.steps, -weight.columns % weight.group
        codes = np.pad(weight.codes, ((0, 0), (0, missing)))
        flat = self._pool(codes, weight.bits)
        laid = self._reshaped(as_floats(steps, flat), (rows, groups, -1))
        zeros = weight.zeros[:1, :1] if weight.symmetric else weight.zeros
        less = steps.constant(zeros.astype(np.float32)[..., None])
        scales = steps.constant(weight.scales[..., None])
        values = steps.make("Mul", steps.make("Sub", laid, less), scales)
        if missing:
            values = self._reshaped(values, (rows, -1))
            ends = (np.array([n], np.int64) for n in (0, weight.columns, 1))
            values = steps.make("Slice", values, *(steps.constant(end) for end in ends))
        self._read(node, weight, values)

    def _read(self, node: NodeProto, weight: Codes, values: str) -> None:
        """Let a node read the rows as it wants its weight."""
        before = weight.shape[: weight.axis]
        shaped = self._reshaped(values, (weight.rows, *before, *weight.shape[weight.axis + 1 :]))
        order = list(range(1, len(weight.shape)))
        order.insert(weight.axis, 0)
        if node.op_type == "MatMul":
            order.reverse()
        if order != sorted(order):
            shaped = self.steps.make("Transpose", shaped, perm=order)
        node.input[0 if node.op_type == "Gather" else 1] = shaped

    def _reshaped(self, tensor: str, shape: tuple[int, ...]) -> str:
        wanted = self.steps.constant(np.array(shape, np.int64))
        return self.steps.make("Reshape", tensor, wanted)
