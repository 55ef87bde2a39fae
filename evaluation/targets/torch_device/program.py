"""From a compressed model to the bytes of a torch.export program with its layers as recorded.

Every quantised layer gives way to one with the simulation's own small numbers, batch norms go into
the layers before them, convolutions keep their weights channels last (torch's faster order on
CPUs). The batch size is left open; names of modules, lines of source and example inputs are left
out.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from compressors.errors import UserError
from compressors.modules import replace
from compressors.policies.steps import FLOAT_INPUTS
from compressors.quantization.layers import LayerQuantization, describe, strip
from compressors.record import CompressedModel
from evaluation.lowering.attention import plain_attention
from evaluation.targets.torch_device import norms
from evaluation.targets.torch_device.floats import FloatLinear
from evaluation.targets.torch_device.integers import GroupedConv2d, IntegerConv2d, IntegerLinear
from evaluation.targets.torch_device.rounding import Product
from evaluation.targets.torch_device.stored import store
from evaluation.targets.torch_device.uncollected import uncollected

SIGNED = Product()
LEFT_OUT = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")


def program(compressed: CompressedModel, product: Product = SIGNED) -> ExportedProgram:
    """The program of a model, in float32 where it is float; its integer products as told."""
    module, example = lowered(compressed, product)
    with plain_attention(), torch.no_grad(), uncollected():
        exported = _export(module, example)
    _tidy(exported)
    return exported


def lowered(
    compressed: CompressedModel, product: Product = SIGNED
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A model that computes as its program will, and inputs for it."""
    module = deepcopy(compressed.module).cpu().eval()
    described = describe(module)
    strip(module)
    module.float().requires_grad_(False)
    example = tuple(_two_samples(tensor.cpu()) for tensor in compressed.example)
    with plain_attention(), torch.no_grad():
        called = _called(module, example)
        for name, facts in described.items():
            _lower(module, name, facts, product, called=name in called)
        norms.fold(module, example)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module, example


def to_bytes(exported: ExportedProgram) -> bytes:
    """The file of a program; its text, most of a small model's bytes, is compressed."""
    buffer, smaller = io.BytesIO(), io.BytesIO()
    with _quiet(), uncollected():
        torch.export.save(exported, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(smaller, "w") as archive:
        for name in whole.namelist():
            entry = zipfile.ZipInfo(name)  # of a fixed date
            if name.endswith(".json"):
                entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, whole.read(name))
    return smaller.getvalue()


def signature(exported: ExportedProgram) -> str:
    """A hash of operators, shapes and types; no weights, and no scales."""
    numbers = {node: number for number, node in enumerate(exported.graph.nodes)}

    def told(value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return f"%{numbers[value]}"
        if isinstance(value, (list, tuple)):
            return [told(item) for item in value]
        return "float" if isinstance(value, float) else str(value)

    facts = []
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        shape = [str(value.dtype), str(tuple(value.shape))] if isinstance(value, Tensor) else None
        target = "" if node.op == "placeholder" else str(node.target)
        facts.append([node.op, target, told(node.args), told(list(node.kwargs.items())), shape])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _two_samples(tensor: Tensor) -> Tensor:
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return torch.cat([tensor[:1], tensor[:1]])


def _called(module: nn.Module, example: tuple[Tensor, ...]) -> set[str]:
    """The modules that are run, and not merely asked for their weights."""
    names: set[str] = set()
    handles = [
        part.register_forward_pre_hook(lambda _, __, name=name: names.add(name))
        for name, part in module.named_modules()
    ]
    module(*example)
    for handle in handles:
        handle.remove()
    return names


def _lower(
    module: nn.Module, name: str, facts: LayerQuantization, product: Product, *, called: bool
) -> None:
    """Put what computes as recorded in a layer's place."""
    layer = module.get_submodule(name)
    if facts.activation_bits is not None and called:
        replace(module, name, _small_layer(layer, facts, product))
    elif facts.stored is not None:
        store(layer, facts)


def _small_layer(layer: nn.Module, facts: LayerQuantization, product: Product) -> nn.Module:
    if facts.inputs in FLOAT_INPUTS:
        assert isinstance(layer, nn.Linear)
        return FloatLinear(layer, facts)
    if isinstance(layer, nn.Linear):
        return IntegerLinear(layer, facts, product)
    assert isinstance(layer, nn.Conv2d)
    if layer.groups > 1:
        return GroupedConv2d(layer, facts)
    return IntegerConv2d(layer, facts, product)


def _tidy(exported: ExportedProgram) -> None:
    """Leave out what says nothing of the computation."""
    for node in list(exported.graph.nodes):
        for key in LEFT_OUT:
            node.meta.pop(key, None)
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            exported.graph.erase_node(node)
    exported.graph_module.recompile()
    exported.example_inputs = None


def _export(module: nn.Module, example: tuple[Tensor, ...]) -> ExportedProgram:
    shapes = tuple({0: Dim.AUTO} for _ in example)
    with _quiet():
        exported = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    names = exported.graph_signature.user_inputs
    inputs = [node for node in exported.graph.nodes if node.name in names]
    if any(str(node.meta["val"].shape[0]).isdigit() for node in inputs):
        raise UserError(
            "The model computes with a fixed batch size, so that its torch.export program would "
            "take no other; valid: a model whose forward takes any batch size."
        )
    return exported


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks on its own deprecations are not for our users."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
