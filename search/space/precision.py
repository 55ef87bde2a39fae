"""Precisions as words (`float`, `w8a8`, `w4af`), the way policies' knobs and YAML say them."""

from __future__ import annotations

import re

from compressors.errors import UserError
from evaluation.target import FLOAT, Precision

_WORD = re.compile(r"w(f|\d+)(?:a(f|\d+))?")  # w4 alone is w4af


def parse_precision(word: str, where: str = "A precision") -> Precision:
    """The precision that a word stands for; `str(precision)` gives the word again."""
    if word == str(FLOAT):
        return FLOAT
    found = _WORD.fullmatch(word)
    if not found:
        raise UserError(f"{where} cannot be '{word}'; valid: float, or such as w8a8 or w4af.")
    weights, activations = (None if part in ("f", None) else int(part) for part in found.groups())
    return Precision(weights, activations)
