"""Policies as YAML: one canonical text a policy, read back by a safe loader only.

The text is composed into nodes, never constructed into objects, so that reading a policy can run
no code; keys are refused unless known, and every error names the file and the line. Knows nothing
of the model that a policy is meant for: see `policy_rules`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from compressors.errors import PolicyError, unknown
from compressors.policies.policy import (
    ORIGINAL,
    STEPS,
    LayerPolicy,
    Policy,
    Recovery,
    Rounds,
    changed,
)
from compressors.policies.steps import Quantize

FLOAT = "float"
_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "merge", "value")}
_TAGS = _SCALARS | {_TAG + "map", _TAG + "seq"}
_EXPONENT = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_BITS = ("weights", "activations")
_LISTS = ("hints",)
KEYS = ("version", "student", "remove", "equalize", "layers", "rounds", "recovery")
T = TypeVar("T")
# Gives the same text as the class in Python where names are plain, several times faster. Reading
# stays with the Python classes: the ones in C have no bound on nesting.
_FAST: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")


def dump(policy: Policy) -> str:
    """The canonical text: what differs from the defaults, in one order, floats in exact form."""
    parts = {
        "student": policy.student if policy.student != ORIGINAL else None,
        "remove": list(policy.remove),
        "equalize": policy.equalize,
        "layers": {layer.name: _layer_data(layer) for layer in policy.layers},
        "rounds": _plain(policy.rounds),
        "recovery": _plain(policy.recovery),
    }
    said = {key: value for key, value in parts.items() if value}
    data = {"version": int(policy.version), **said}
    text: str = yaml.dump(
        data, Dumper=_dumper(policy), sort_keys=False, default_flow_style=None, width=2**20
    )
    return text


def _dumper(policy: Policy) -> Any:
    recovery = policy.recovery
    names = [layer.name for layer in policy.layers]
    names += [*policy.remove, *recovery.hints, recovery.teacher, policy.student]
    return _FAST if all(_PLAIN.fullmatch(name) for name in names) else yaml.SafeDumper


def policy_id(policy: Policy) -> str:
    """The first 12 hexadecimal digits of the canonical text's SHA-256."""
    return hashlib.sha256(dump(policy).encode()).hexdigest()[:12]


def load(text: str, source: str = "policy") -> Policy:
    """The policy that a text describes; `source` is the file's name in error messages."""
    return _Reader(source).policy(text)


def read(path: str | Path) -> Policy:
    """The policy in a file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"Policy file '{path}' is not UTF-8 text.") from error
    except OSError as error:
        raise PolicyError(f"Policy file '{path}' cannot be read: {error.strerror}.") from error
    return load(text, source=str(path))


def write(policy: Policy, path: str | Path) -> None:
    """Write the canonical text, whole or not at all."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(dump(policy))
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _layer_data(layer: LayerPolicy) -> dict[str, Any]:
    steps = {name: getattr(layer, name) for name in STEPS}
    return {name: _plain(step) for name, step in steps.items() if step is not None}


def _plain(step: Any) -> dict[str, Any]:
    return {key: _scalar(value) for key, value in changed(step).items()}


def _scalar(value: Any) -> Any:
    if value is None:
        return FLOAT
    if isinstance(value, tuple):
        return list(value)
    return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0


class _Reader:
    """Walks the nodes of one text along the policy's schema."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._scalars = yaml.constructor.SafeConstructor()

    def policy(self, text: str) -> Policy:
        root = self._compose(text)
        items = self._items(root, "policy", KEYS)
        if "version" not in items:
            raise self._error(root, "the key 'version' is missing; write 'version: 1' first")
        version = self._value(items["version"], "version")
        if version != 1 or not isinstance(version, int) or isinstance(version, bool):
            raise self._error(items["version"], f"version cannot be {version!r}; valid: 1")
        arguments: dict[str, Any] = {}
        if "remove" in items:
            arguments["remove"] = self._names(items["remove"], "remove")
        if "layers" in items:
            arguments["layers"] = self._layers(items["layers"])
        for key, kind in (("recovery", Recovery), ("rounds", Rounds)):
            if key in items:
                arguments[key] = self._step(items[key], key, kind)
        for key in ("equalize", "student"):
            if key in items:
                arguments[key] = self._value(items[key], key)
        return self._build(root, lambda: Policy(**arguments))

    def _compose(self, text: str) -> yaml.Node:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            problem = error.problem or error.context
            raise PolicyError(f"{self._source}{line}: not valid YAML: {problem}.") from error
        except yaml.YAMLError as error:
            problem = str(error).splitlines()[0]
            raise PolicyError(f"{self._source}: not valid YAML: {problem}.") from error
        except RecursionError:
            raise PolicyError(f"{self._source}: not a policy: nested too deeply.") from None
        if root is None:
            raise PolicyError(f"{self._source}: the policy is empty; it needs 'version: 1'.")
        return root

    def _layers(self, node: yaml.Node) -> tuple[LayerPolicy, ...]:
        return tuple(
            self._layer(name, entry) for name, entry in self._items(node, "layers").items()
        )

    def _layer(self, name: str, node: yaml.Node) -> LayerPolicy:
        items = self._items(node, f"layer '{name}'", tuple(STEPS))
        steps = {key: self._step(item, key, STEPS[key]) for key, item in items.items()}
        return self._build(node, lambda: LayerPolicy(name, **steps))

    def _step(self, node: yaml.Node, what: str, kind: type[T]) -> T:
        known = fields(kind)  # type: ignore[arg-type]
        items = self._items(node, what, tuple(item.name for item in known))
        for item in known:
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in items:
                raise self._error(node, f"the key '{item.name}' of {what} is missing")
        values = {
            key: self._names(item, f"{what}.{key}")
            if key in _LISTS
            else self._value(item, f"{what}.{key}")
            for key, item in items.items()
        }
        for key in _BITS:
            if kind is Quantize and values[key] == FLOAT:
                values[key] = None
        return self._build(node, lambda: kind(**values))

    def _items(
        self, node: yaml.Node, what: str, valid: tuple[str, ...] | None = None
    ) -> dict[str, yaml.Node]:
        self._check_tag(node)
        if not isinstance(node, yaml.MappingNode):
            example = f" with keys among {', '.join(valid)}" if valid else ""
            raise self._error(node, f"{what} must be a mapping{example}")
        items: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self._name(key_node, f"a key of {what}")
            if key in items:
                raise self._error(key_node, f"the key '{key}' of {what} is written twice")
            if valid is not None and key not in valid:
                raise self._error(key_node, unknown(f"key of {what}", key, valid).rstrip("."))
            items[key] = value
        return items

    def _names(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        self._check_tag(node)
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, f"{what} must be a list of module paths")
        return tuple(self._name(item, f"an entry of {what}") for item in node.value)

    def _name(self, node: yaml.Node, what: str) -> str:
        """The text as written: the module path 1.0 is a name here, not a number."""
        self._check_tag(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{what} must be plain text")
        return str(node.value)

    def _value(self, node: yaml.Node, what: str) -> Any:
        self._check_tag(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{what} must be one value")
        if node.style is None and _EXPONENT.match(node.value):
            return float(node.value)  # 1e-3 is text in YAML 1.1
        try:
            return self._scalars.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            raise self._error(node, f"{what} cannot be {node.value[:40]!r}") from None

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _TAGS:
            tag = node.tag.removeprefix(_TAG)
            raise self._error(node, f"the tag '{tag}' is not allowed; policies are plain data")

    def _build(self, node: yaml.Node, build: Callable[[], T]) -> T:
        try:
            return build()
        except PolicyError as error:
            raise self._error(node, str(error).rstrip(".")) from error

    def _error(self, node: yaml.Node, problem: str) -> PolicyError:
        line = node.start_mark.line + 1
        return PolicyError(f"{self._source}, line {line}: {problem}.")
