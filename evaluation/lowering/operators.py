"""Single operators in the form that ONNX Runtime has kernels for, of equal meaning.

Says nothing of how operators hang together, and leaves alone what it does not know the rank of.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from evaluation.lowering.graph import Graph, attributes


def ranks(traced: onnx.ModelProto) -> dict[str, int]:
    """How many dimensions each tensor has, where that is known."""
    graph = onnx.shape_inference.infer_shapes(traced).graph
    known = [*graph.value_info, *graph.input, *graph.output]
    typed = [v for v in known if v.type.tensor_type.HasField("shape")]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in typed}


def pool_globally(graph: Graph, ranks: Mapping[str, int]) -> None:
    """A mean over height and width is a global average pool, which has an integer kernel."""
    for place, node in enumerate(graph.nodes):
        facts = attributes(node)
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            continue
        if sorted(axis % 4 for axis in facts.get("axes", [])) != [2, 3]:
            continue
        pooled = node.output[0] if facts.get("keepdims", 1) else graph.fresh()
        graph.nodes[place] = helper.make_node("GlobalAveragePool", [node.input[0]], [pooled])
        if pooled != node.output[0]:
            flat = helper.make_node("Flatten", [pooled], [node.output[0]])
            graph.nodes.insert(place + 1, flat)


def count_no_padding(graph: Graph) -> None:
    """Keep average pools from an integer kernel that counts as padding what only rounding added.

    Only pools that round up have this; those without padding need not count it, the others stay
    float behind a step that changes nothing.
    """
    for node in [node for node in graph.nodes if node.op_type == "AveragePool"]:
        facts = attributes(node)
        if not facts.get("ceil_mode") or not facts.get("count_include_pad"):
            continue
        if not any(facts.get("pads", [])):
            kept = [a for a in node.attribute if a.name != "count_include_pad"]
            del node.attribute[:]
            node.attribute.extend(kept)
        else:
            raw = graph.fresh()
            same = helper.make_node("LeakyRelu", [raw], [node.output[0]], alpha=1.0)
            graph.nodes.insert(graph.nodes.index(node) + 1, same)
            node.output[0] = raw


def spell_out_padding(graph: Graph) -> None:
    """A convolution that pads by its kernel's size says by how much: dilated ones must."""
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        facts = attributes(node)
        if facts.get("auto_pad") != b"SAME_UPPER" or set(facts["strides"]) != {1}:
            continue
        pairs = zip(facts["kernel_shape"], facts["dilations"], strict=True)
        totals = [(size - 1) * dilation for size, dilation in pairs]
        before = [total // 2 for total in totals]
        after = [total - first for total, first in zip(totals, before, strict=True)]
        kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", before + after)])
