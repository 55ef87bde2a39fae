"""An ONNX graph as OpenVINO IR: an .xml and its .bin, both as small as they can be.

Codes of fewer than 8 bits are packed. Knows nothing of how a model was quantised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import openvino as ov  # type: ignore[import-untyped]
import openvino.opset13 as operators  # type: ignore[import-untyped]
from openvino._offline_transformations import (  # type: ignore[import-untyped]
    apply_moc_transformations,
)

from evaluation.artifact_parts import parts
from evaluation.cache import replacing
from evaluation.lowering.graph import Array

KERNELS = {(True, 4): ov.Type.i4, (False, 4): ov.Type.u4}  # that multiply them out as they run
SPREAD = {2: ov.Type.u2, 3: ov.Type.u3, 5: ov.Type.u6, 6: ov.Type.u6}
LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
UNBIASED = "/WithoutBiases"  # as OpenVINO names a layer whose bias comes after


def write(model: onnx.ModelProto, bits: Mapping[str, int], path: Path) -> None:
    """Write the files; `bits` are those that the codes under a Cast of that name take."""
    network = ov.Core().read_model(model.SerializeToString())
    apply_moc_transformations(network, cf=True, smart_reshape=False)
    for node in network.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() == "Convert" and bits.get(name.removesuffix(":zero"), 8) < 8:
            _narrow(node, bits[name.removesuffix(":zero")])
    _share(network)
    _name(network, _names(model))
    xml, weights = parts(path)
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        whole = Path(folder) / "model.xml"
        ov.save_model(network, whole, compress_to_fp16=False)
        with replacing(weights) as temporary:
            temporary.write_bytes(whole.with_suffix(".bin").read_bytes())
        with replacing(xml) as temporary:
            temporary.write_text(smallest(whole.read_text(encoding="utf-8")), encoding="utf-8")


def smallest(xml: str) -> str:
    """The same network without notes, blanks between tags, and what the reader finds by itself."""
    xml = re.sub(r"<rt_info>.*?</rt_info>|<rt_info ?/>", "", xml, flags=re.DOTALL)
    xml = re.sub(r">\s+<", "><", xml)
    return re.sub(r"<input>.*?</input>", lambda found: _numbers_alone(found[0]), xml)


def _numbers_alone(inputs: str) -> str:
    """A layer's inputs without their types and shapes, which are those of what they read."""
    return re.sub(r'<port id="(\d+)".*?(/>|</port>)', r'<port id="\1"/>', inputs)


def _names(model: onnx.ModelProto) -> dict[str, str]:
    """Layers by how OpenVINO names them, which is for the last one the output's name."""
    outputs = {output.name for output in model.graph.output}
    named = [node for node in model.graph.node if node.name]
    last = {node.output[0]: node.name for node in named if node.output[0] in outputs}
    return {node.name: node.name for node in named} | last


def _name(network: ov.Model, layers: Mapping[str, str]) -> None:
    """Layers, inputs and outputs bear their names; everything else is numbered."""
    outputs = {value.get_node().input_value(0).get_node() for value in network.outputs}
    for number, node in enumerate(network.get_ordered_ops()):
        if node.get_type_name() in ("Parameter", "Result"):
            continue
        node.set_friendly_name(_layer(node, layers) or f"#{number}")
        if node not in outputs:
            for output in node.outputs():
                output.set_names(set())


def _layer(node: ov.Node, layers: Mapping[str, str]) -> str | None:
    """The name of a layer's node; a bias that is added bears the layer's own."""
    name: str = node.get_friendly_name()
    if node.get_type_name() in LAYERS:
        suffix = UNBIASED if name.endswith(UNBIASED) else ""
        known = layers.get(name.removesuffix(UNBIASED))
        return None if known is None else known + suffix
    if node.get_type_name() != "Add" or not any(_constant(v) for v in node.input_values()):
        return None
    for before in (value.get_node() for value in node.input_values()):
        name = before.get_friendly_name().removesuffix(UNBIASED)
        if before.get_type_name() in LAYERS and name in layers.values():
            before.set_friendly_name(name + UNBIASED)
            return name
    return None


def _constant(value: ov.Output) -> bool:
    """Whether a bias is a constant, or integers and their scale."""
    node = value.get_node()
    if node.get_type_name() in ("Multiply", "Convert"):
        return all(_constant(read) for read in node.input_values())
    return bool(node.get_type_name() == "Constant")


def _narrow(convert: ov.Node, bits: int) -> None:
    """Let a Convert read its 8-bit constant packed: as it is, or spread out when it is loaded."""
    values: Array = convert.input_value(0).get_node().get_data()
    signed = values.dtype == np.int8
    kind = KERNELS.get((signed, bits))
    if kind is None:
        least = 1 - 2 ** (bits - 1) if signed else 0
        codes = _packed(SPREAD[bits], values.astype(np.int64) - least)
        whole = operators.convert(codes, "i8" if signed else "u8")
        least_of_all = operators.constant(np.array(least, values.dtype))
        source = operators.add(whole, least_of_all) if least else whole
    else:
        source = _packed(kind, values)
    convert.input(0).replace_source_output(source.output(0))


def _packed(kind: ov.Type, values: Array) -> ov.Node:
    return ov.op.Constant(kind, ov.Shape(values.shape), values.reshape(-1).tolist())


def _share(network: ov.Model) -> None:
    """Equal small constants become one."""
    first: dict[tuple[str, tuple[int, ...], bytes], ov.Output] = {}
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_output_element_type(0).bitwidth < 8:
            continue
        values: Array = node.get_data()
        if values.size > 16:
            continue
        key = (str(node.get_output_element_type(0)), values.shape, values.tobytes())
        if key in first:
            node.output(0).replace(first[key])
        else:
            first[key] = node.output(0)
