"""A step as one word: what a knob's choice says, and the step that it stands for.

A choice is a number or a word for the common case (0.5, w8a8, 2:4), or a mapping of the step's own
keys. Each becomes one canonical word, which is what a study stores and a table shows: how much
first, then what differs from the space's defaults (`w4a8 group32 gptq`, `0.5 taylor repair`). It
reads back to the same step. Knows nothing of layers and targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from compressors.errors import UserError, unknown
from compressors.policies.policy import STEPS, does_nothing
from compressors.policies.steps import FLOAT_INPUTS, OF_INPUTS, OF_INTEGER_INPUTS, OF_WEIGHTS
from evaluation.target import FP8, Precision
from search.space import precision
from search.space.options import FLOAT, Choice, Given

# The value of each kind of knob that does nothing.
NEUTRAL: dict[str, Choice] = {
    "depth": False,
    "heads": 0.0,
    "prune": 0.0,
    "lowrank": 1.0,
    "sparsify": 0.0,
    "quantize": FLOAT,
}
SIZE = {"heads": "share", "prune": "channels", "lowrank": "ratio", "sparsify": "share"}
BITS = ("weights", "activations")
ALONE = ("criterion", "form", "ranges", "function", "granularity", "rounding")  # said without a key
_SHAPES = {
    "heads": "numbers, or keys of heads such as {share: 0.5, repair: true}",
    "prune": "numbers, or keys of prune such as {channels: 0.5, criterion: taylor}",
    "lowrank": "numbers, or keys of lowrank such as {energy: 0.9, form: spatial}",
    "sparsify": "shares below 1, patterns in quotes such as '2:4', or keys of sparsify",
    "quantize": "float, precisions such as w8a8, w4af or fp8, or keys of quantize",
}


@dataclass(frozen=True)
class Words:
    """The words of one kind of step, in a space with these defaults.

    `open` names the keys that a knob of their own decides where a choice does not say them.
    """

    kind: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    open: tuple[str, ...] = ()

    def canonical(self, given: Given, where: str) -> Choice:
        """The one word for a choice as the user wrote it, in the setting that `where` names."""
        keys = self._keys(given, where)
        try:
            step = self._build(keys)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if does_nothing(self.kind, step):
            return NEUTRAL[self.kind]
        return self._word(step, keys)

    def step(self, word: Choice, decided: Mapping[str, Any] | None = None) -> Any:
        """The step that a canonical word stands for, None where it does nothing.

        `decided` is what the open keys' knobs say.
        """
        if word == NEUTRAL[self.kind]:
            return None
        keys = self._keys(word, f"space.{self.kind}.choices")
        open_ = {key: value for key, value in (decided or {}).items() if key not in keys}
        return Words(self.kind, {**self.defaults, **open_}, self.open)._build(keys)

    def _build(self, keys: Mapping[str, Any]) -> Any:
        return STEPS[self.kind](**self._applying(keys), **keys)

    def _applying(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of what is not said; those of weights or inputs are not for floats."""
        floats = dict.fromkeys(BITS) if self.kind == "quantize" else {}
        left = {key: value for key, value in {**floats, **self.defaults}.items() if key not in keys}
        if self.kind == "quantize" and {**left, **keys}["weights"] is None:
            left = {key: value for key, value in left.items() if key not in OF_WEIGHTS}
        said = {**left, **keys}
        idle: tuple[str, ...] = ()
        if self.kind == "quantize" and said["activations"] is None:
            idle = OF_INPUTS
        elif said.get("inputs") in FLOAT_INPUTS:
            idle = OF_INTEGER_INPUTS
        return {key: value for key, value in left.items() if key not in idle}

    def _keys(self, given: Given, where: str) -> dict[str, Any]:
        keys: dict[str, Any]
        if isinstance(given, Mapping):
            keys = dict(given)
        elif isinstance(given, str):
            keys = {}
            for token in given.split() or [given]:
                keys |= self._token(token, where)
        elif self.kind == "sparsify" and not 0 <= given < 1:  # 2:4 without quotes is 124 in YAML
            raise self._unreadable(given, where)
        elif self.kind in SIZE and not isinstance(given, bool):
            keys = {SIZE[self.kind]: given}
        else:
            raise self._unreadable(given, where)
        self._check_names(keys, where)
        if self.kind == "quantize":
            keys.update({key: None for key in BITS if keys.get(key, FLOAT) == FLOAT})
        return keys

    def _check_names(self, keys: Mapping[str, Any], where: str) -> None:
        known = fields(STEPS[self.kind])
        valid = [item.name for item in known]
        for key in keys:
            if key not in valid:
                raise UserError(unknown(f"key of {where}", key, valid))
        needed = [item.name for item in known if item.default is MISSING]
        if needed and not set(needed) & set(keys):
            said = " ".join(f"{key}={value}" for key, value in keys.items())
            raise UserError(f"{where} needs {' or '.join(needed)} beside {said}.")

    def _token(self, token: str, where: str) -> dict[str, Any]:
        key, equals, value = token.partition("=")
        if equals:
            return {key: _value(value)}
        if token in _flags(self.kind):
            return {token: True}
        if token in _alone(self.kind):
            return {_alone(self.kind)[token]: token}
        if self.kind == "quantize":
            if token.startswith("group"):
                return {"granularity": "group", "group": _value(token.removeprefix("group"))}
            return precision.keys_of(precision.parse_precision(token, where))
        if self.kind == "sparsify" and ":" in token:
            return {"pattern": token}
        if not isinstance(_value(token), (int, float)):
            raise self._unreadable(token, where)
        return {SIZE[self.kind]: _value(token)}

    def _unreadable(self, given: object, where: str) -> UserError:
        return UserError(f"{where} cannot hold {given!r}; valid: {_SHAPES[self.kind]}.")

    def _word(self, step: Any, keys: Mapping[str, Any]) -> Choice:
        said = [
            item.name
            for item in fields(step)
            if item.name in keys and (item.name in self.open or self._differs(item, step))
        ]
        if self.kind == "quantize":
            return _quantize_word(step, [key for key in said if key not in BITS])
        if said == [SIZE[self.kind]]:
            return float(getattr(step, said[0]))
        return " ".join(_say(self.kind, key, getattr(step, key)) for key in said)

    def _differs(self, item: Any, step: Any) -> bool:
        default = self.defaults.get(item.name, item.default)
        return default is MISSING or bool(getattr(step, item.name) != default)


def _quantize_word(step: Any, said: list[str]) -> str:
    if Precision(step.weights, step.activations, step.inputs) == FP8:
        said = [key for key in said if key not in precision.FORMATS]
        short = str(FP8)
    elif not said:
        return str(Precision(step.weights, step.activations))
    else:
        short = f"w{step.weights or 'f'}"
        short += f"a{step.activations}" if step.activations or not step.weights else ""
    tokens = [short]
    grouped = "granularity" in said and step.granularity == "group"
    for key in said:
        if key == "granularity" and grouped:
            tokens.append(f"group{step.group}")
        elif not (key == "group" and grouped):
            tokens.append(_say("quantize", key, getattr(step, key)))
    return " ".join(tokens)


def _say(kind: str, key: str, value: Any) -> str:
    """One key of a step as a token of its word."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if key == SIZE.get(kind) or key in ALONE or key == "pattern":
        return text
    return key if value is True else f"{key}={text}"


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@cache
def _flags(kind: str) -> frozenset[str]:
    hints = get_type_hints(STEPS[kind])
    return frozenset(key for key, hint in hints.items() if hint is bool)


@cache
def _alone(kind: str) -> dict[str, str]:
    """The words that say which key they belong to."""
    hints = get_type_hints(STEPS[kind])
    return {word: key for key in ALONE if key in hints for word in get_args(hints[key])}
