"""Precisions as words (`float`, `w8a8`, `w4af`, `fp8`), as policies' knobs and YAML say them."""

from __future__ import annotations

import re
from typing import Any

from compressors.errors import UserError
from evaluation.target import FLOAT, FP8, Precision

_WORD = re.compile(r"w(f|\d+)(?:a(f|\d+))?")  # w4 alone is w4af
FORMATS = ("function", "inputs")  # keys that fp8 decides beside the bits
_NAMED = {str(precision): precision for precision in (FLOAT, FP8)}


def parse_precision(word: str, where: str = "A precision") -> Precision:
    """The precision that a word stands for; `str(precision)` gives the word again."""
    if word in _NAMED:
        return _NAMED[word]
    found = _WORD.fullmatch(word)
    if not found:
        raise UserError(f"{where} cannot be '{word}'; valid: float, or such as w8a8, w4af or fp8.")
    weights, activations = (None if part in ("f", None) else int(part) for part in found.groups())
    return Precision(weights, activations)


def keys_of(precision: Precision) -> dict[str, Any]:
    """The keys of quantize that a precision decides."""
    keys: dict[str, Any] = {"weights": precision.weights, "activations": precision.activations}
    if precision == FP8:
        keys |= dict.fromkeys(FORMATS, precision.inputs)
    return keys
