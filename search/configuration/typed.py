"""Holds plain configuration data against type annotations, with errors in one sentence.

`fits` judges one value, `typed` fills a (nested) dataclass from a mapping: an unknown key names
the nearest valid one, a wrong type names what is valid. Knows nothing of what the data is for.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from compressors.errors import UserError, choices, unknown

T = TypeVar("T")
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def typed(kind: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """The dataclass filled from a mapping; its own checks run as it is made."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in _fields(kind)]
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in names:
            raise UserError(unknown("key", f"{prefix}{key}", (f"{prefix}{name}" for name in names)))
    missing = [f.name for f in _fields(kind) if _required(f) and f.name not in data]
    if missing:
        raise UserError(f"{where or 'The configuration'} needs a value for {choices(missing)}.")
    return kind(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in data.items()})


def _fields(kind: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _value(hint: Any, value: object, where: str) -> object:
    inner = _dataclass_in(hint)
    if inner is not None and isinstance(value, Mapping):
        return typed(inner, value, where)
    of = _mapping_of_dataclasses(hint)
    if of is not None and isinstance(value, Mapping):
        return {key: _value(of, item, f"{where}.{key}") for key, item in value.items()}
    if not fits(value, hint):
        raise UserError(f"{where} cannot be {value!r}; valid: {in_words(hint)}.")
    return _as_hinted(value, hint)


def _dataclass_in(hint: Any) -> type[Any] | None:
    options = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    return next((o for o in options if inspect.isclass(o) and dataclasses.is_dataclass(o)), None)


def _mapping_of_dataclasses(hint: Any) -> type[Any] | None:
    origin = typing.get_origin(hint)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return _dataclass_in(typing.get_args(hint)[1])
    return None


def _as_hinted(value: object, hint: Any) -> object:
    """Lists become tuples where tuples are asked for, whole numbers floats, text a path."""
    if typing.get_origin(hint) in _UNIONS:
        fitting = next(option for option in typing.get_args(hint) if fits(value, option))
        return _as_hinted(value, fitting)
    if hint is float and isinstance(value, int):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if inspect.isclass(origin) and issubclass(origin, tuple) and isinstance(value, (list, tuple)):
        return tuple(map(_as_hinted, value, _item_hints(origin, inner, len(value))))
    if inspect.isclass(origin) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _as_hinted(item, inner[1]) for key, item in value.items()}
    return value


_UNIONS = (Union, types.UnionType)


def fits(value: object, hint: Any) -> bool:
    """Whether a configured value can be passed where the annotation asks for the hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in inner)
    if inspect.isclass(origin):
        return _fits_container(value, origin, inner)
    return _fits_plain(value, hint)


def _fits_plain(value: object, hint: Any) -> bool:
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, str)
    if inspect.isclass(hint) and dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)
    return True  # any other annotation is its owner's business


def _fits_container(value: object, origin: type, inner: tuple[Any, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(key, inner[0]) and fits(item, inner[1]) for key, item in value.items()
        )
    if issubclass(origin, Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        hints = _item_hints(origin, inner, len(value))
        return len(hints) == len(value) and all(map(fits, value, hints))
    return True


def _item_hints(origin: type, inner: tuple[Any, ...], length: int) -> list[Any]:
    repeated = not issubclass(origin, tuple) or inner[-1:] == (Ellipsis,)
    return [inner[0]] * length if repeated else list(inner)


def in_words(hint: Any) -> str:
    """What an annotation allows, for the person who wrote something else."""
    if hint in _WORDS:
        return _WORDS[hint]
    if hint is None or hint is type(None):
        return "null"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        wider = {int} if float in inner else set()  # a number is said once
        return " or ".join(in_words(option) for option in inner if option not in wider)
    if origin is Literal:
        return choices(inner)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"keys with {in_words(inner[1])} each"
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"a list of {in_words(inner[0])}"
    if inspect.isclass(hint) and dataclasses.is_dataclass(hint):
        return f"keys among {choices(field.name for field in dataclasses.fields(hint))}"
    return "anything" if hint is Any else getattr(hint, "__name__", str(hint))
