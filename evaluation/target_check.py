"""Whether an object is a target, told in one sentence before anything is run on it."""

from __future__ import annotations

from typing import get_args

from compressors.errors import UserError, choices
from evaluation.target import Basis, Capability

FACTS = ("name", "suffix", "tolerance", "basis", "capability")
METHODS = ("lower", "load", "latency", "compare")


def check_target(target: object) -> None:
    """Raise what a class of the user's own lacks."""
    what = f"The target {type(target).__module__}.{type(target).__qualname__}"
    missing = [name for name in FACTS if not hasattr(target, name)]
    missing += [name for name in METHODS if not callable(getattr(target, name, None))]
    if missing:
        raise UserError(
            f"{what} has no {choices(missing)}; a target has {', '.join(FACTS)}, and the methods "
            f"{choices(METHODS)}."
        )
    for name, fine, valid in (
        ("suffix", str(getattr(target, "suffix", "")).startswith("."), "such as .bin"),
        ("basis", getattr(target, "basis", None) in get_args(Basis), choices(get_args(Basis))),
        (
            "capability",
            isinstance(getattr(target, "capability", None), Capability),
            "an evaluation.target.Capability",
        ),
    ):
        if not fine:
            raise UserError(f"{what}.{name} cannot be {getattr(target, name)!r}; valid: {valid}.")
