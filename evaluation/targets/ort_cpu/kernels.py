"""The capability table of ONNX Runtime's CPU kernels, as data.

Measured with one thread, 384 to 1536 inputs, against floats: integer products of inputs whose
range is found on the spot are faster from the first row on; ConvInteger takes 5 to 25 times as long
as a float convolution and is left out. MatMulNBits with 4 bits and float inputs is a little faster
for one row and up to twice as slow for sixteen; with 8 bits it is 20 times slower, and left out.
Where it may round inputs to 8 bits, in blocks, both are 2 to 3 times faster for one row and even
for many: a knob, as no simulation has that rounding.
"""

from __future__ import annotations

from dataclasses import replace

from compressors.policies.steps import AFFINE
from compressors.record import LayerKind
from evaluation.target import FLOAT, INT8, Capability, Formats, Precision
from evaluation.targets.ort_cpu.matmuls import BLOCKS

W4, W8 = Precision(4, None), Precision(8, None)
_GROUPED = ("channel", "tensor", "group")
_NARROW = tuple(Precision(bits, 8) for bits in (7, 6, 5, 4, 3, 2))
_WEIGHTS = tuple(Precision(bits, None) for bits in (8, 7, 6, 5, 4, 3, 2))
_STORED: dict[LayerKind, tuple[Precision, ...]] = {
    "linear": (*_NARROW, *(p for p in _WEIGHTS if p != W4)),
    "conv2d": (*_NARROW, *_WEIGHTS),
    "conv1d": _WEIGHTS,
    "conv_transpose2d": _WEIGHTS,
    "embedding": _WEIGHTS,
}
_FORMATS = {
    **{(kind, p): Formats(AFFINE, _GROUPED) for kind in _STORED for p in _WEIGHTS},
    ("linear", W4): Formats(AFFINE, _GROUPED, BLOCKS),
    **{(kind, p): Formats() for kind in _STORED for p in _NARROW},
}
TABLE = Capability(
    {
        "linear": (FLOAT, INT8, W4),
        "conv2d": (FLOAT, INT8),
        "conv1d": (FLOAT,),
        "conv_transpose2d": (FLOAT,),
        "embedding": (FLOAT,),
    },
    channel_multiple=8,
    dynamic=("linear",),
    formats=_FORMATS,
    stored=_STORED,
)


def table(*, storage_only: bool, round_inputs: bool) -> Capability:
    """The table where widths without a kernel are stored too, or where kernels round inputs."""
    known = replace(TABLE, storage_only=storage_only)
    if not round_inputs:
        return known
    return replace(
        known,
        precisions={**TABLE.precisions, "linear": (FLOAT, INT8, W8, W4)},
        stored={**_STORED, "linear": tuple(p for p in _STORED["linear"] if p != W8)},
        formats={**_FORMATS, ("linear", W8): _FORMATS["linear", W4]},
    )
