"""A .tflite file in the making: tensors, constants and operators, by the runtime's own schema.

Equal constants are kept once. Tensors have the shape of one sample; the first dimension of inputs
is said to vary. Knows nothing of ONNX, nor of which operators have fast kernels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

from evaluation.lowering.graph import Array

VERSION = 3  # of the file format
IDENTIFIER = b"TFL3"
NONE = -1  # an input that is left out
HALF = 4
SMALL = 16  # numbers of an integer constant that tell shapes and axes
TYPES = {
    "float32": "FLOAT32",
    "int4": "INT4",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class Scales:
    """real = scale * (integer - zero point); one scale, or one a slice along the axis."""

    values: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0
    bits: int = 8  # 4: two integers a byte


class File:
    """Tensors and operators in order of execution."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._facts: list[Any] = []  # of each tensor, for the signature
        self._buffers: list[Any] = [schema.BufferT()]  # the first one is everybody's empty one
        self._constants: dict[Any, int] = {}
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "float32",
        scales: Scales | None = None,
        name: str = "",
    ) -> int:
        """A tensor that an operator, or the caller, fills."""
        made = schema.TensorT(
            shape=[int(size) for size in shape],
            type=getattr(schema.TensorType, TYPES[dtype]),
            name=name.encode(),
            quantization=_quantization(scales),
        )
        made.hasRank = True
        self._tensors.append(made)
        self._facts.append([dtype, made.shape, scales is not None and len(scales.values)])
        return len(self._tensors) - 1

    def constant(self, value: Array, scales: Scales | None = None) -> int:
        """A tensor of fixed content."""
        value = np.array(value, order="C")
        key = (str(value.dtype), value.shape, value.tobytes(), scales)
        if key not in self._constants:
            halves = scales is not None and scales.bits == HALF
            kind = "int4" if halves else str(value.dtype)
            index = self.tensor(value.shape, kind, scales)
            content = _halves(value) if halves else value
            self._tensors[index].buffer = len(self._buffers)
            data = np.frombuffer(content.tobytes(), np.uint8)
            self._buffers.append(schema.BufferT(data=data))
            small = value.dtype in (np.int32, np.int64) and value.size <= SMALL and scales is None
            self._facts[index] = ["constant", *self._facts[index], small and value.tolist()]
            self._constants[key] = index
        return self._constants[key]

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """Append an operator of the schema's name, with its options where it has any."""
        made = schema.OperatorT(
            opcodeIndex=self._codes.setdefault(name, len(self._codes)),
            inputs=list(inputs),
            outputs=list(outputs),
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = options
        self._operators.append(made)

    def to_bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The whole file."""
        for index in inputs:
            self._tensors[index].shapeSignature = [-1, *self._tensors[index].shape[1:]]
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=list(inputs),
            outputs=list(outputs),
            operators=self._operators,
            name=b"main",
        )
        model = schema.ModelT(
            version=VERSION,
            operatorCodes=[_code(name) for name in self._codes],
            subgraphs=[graph],
            buffers=self._buffers,
            description=b"",
        )
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def signature(self, inputs: Sequence[int], outputs: Sequence[int]) -> str:
        """A hash of what the file's speed depends on: operators, shapes, types, wiring."""
        names = list(self._codes)
        facts: list[Any] = [[self._seen(i) for i in inputs], [self._seen(i) for i in outputs]]
        for operator in self._operators:
            wires = [[self._seen(i) for i in ends] for ends in (operator.inputs, operator.outputs)]
            options = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
            facts.append(
                [names[operator.opcodeIndex], *wires, {k: str(v) for k, v in options.items()}]
            )
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _seen(self, index: int) -> Any:
        """A constant by what it is, any other tensor also by its place among them."""
        if index == NONE or self._facts[index][0] == "constant":
            return self._facts[index] if index != NONE else None
        before = sum(self._facts[i][0] != "constant" for i in range(index))
        return [before, *self._facts[index]]


def _halves(values: Array) -> Array:
    """4-bit integers, two a byte, the first in its low half."""
    flat = np.append(values.ravel(), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 0xF
    return np.asarray(flat[0::2] | flat[1::2] << 4)


def _code(name: str) -> Any:
    code = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1)


def _quantization(scales: Scales | None) -> Any:
    if scales is None:
        return None
    return schema.QuantizationParametersT(
        scale=np.array(scales.values, np.float32),
        zeroPoint=np.full(len(scales.values), scales.zero_point, np.int64),
        quantizedDimension=scales.axis,
    )
