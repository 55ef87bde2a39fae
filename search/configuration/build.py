"""Builds the object that a configuration node describes: `_target_` names a class, the rest are
its arguments.

Arguments are held against the class's signature first, so that a misspelt name or a wrong type is
one sentence and not a traceback. Knows nothing of what it builds. Only configuration ever gets
here: a policy file cannot name a class.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compressors.errors import UserError, choices, unknown
from search.configuration.typed import fits, in_words

TARGET = "_target_"
LABEL = "name"  # every node may carry a name; it is an argument only where the class takes one


def instantiate(node: Mapping[str, Any], what: str) -> Any:
    """The object of the class that the node's `_target_` names, with the node's other keys."""
    build, arguments = _checked(node, what)
    nested = {
        key: instantiate(value, f"{what}.{key}")
        if isinstance(value, Mapping) and TARGET in value
        else value
        for key, value in arguments.items()
    }
    return build(**nested)


def check(node: Mapping[str, Any], what: str) -> None:
    """Raise what `instantiate` would raise about the node itself, without building anything."""
    _, arguments = _checked(node, what)
    for key, value in arguments.items():
        if isinstance(value, Mapping) and TARGET in value:
            check(value, f"{what}.{key}")


def _checked(node: Mapping[str, Any], what: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    build = _find(node, what)
    parameters = inspect.signature(build).parameters
    arguments = {key: value for key, value in node.items() if key != TARGET}
    if LABEL not in parameters and not _takes_any(parameters):
        arguments.pop(LABEL, None)
    _check_names(arguments, parameters, f"{what} ({node[TARGET]})")
    _check_types(arguments, _hints(build), what)
    return build, arguments


def _find(node: Mapping[str, Any], what: str) -> Callable[..., Any]:
    path = node.get(TARGET)
    if not isinstance(path, str) or "." not in path.strip("."):
        raise UserError(
            f"{what}.{TARGET} cannot be {path!r}; valid: the path of a class, such as my_task.Mine."
        )
    module_name, _, name = path.rpartition(".")
    module = _import(module_name, f"{what}.{TARGET} '{path}'")
    if not hasattr(module, name):
        valid = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module_name]
        raise UserError(unknown(f"class of module {module_name} in {what}.{TARGET}", name, valid))
    found = getattr(module, name)
    if not callable(found):
        raise UserError(
            f"{what}.{TARGET} '{path}' is a {type(found).__name__}; it must be a class."
        )
    return typing.cast("Callable[..., Any]", found)


def _import(module_name: str, where: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(
                f"{where} names the module '{module_name}', of which '{error.name}' is not found; "
                f"it is looked for in {Path.cwd()}, next to --config-dir, and among the installed."
            ) from error
        raise UserError(f"{where} cannot be imported: {error}.") from error
    except (ImportError, SyntaxError, ValueError) as error:
        raise UserError(f"{where} cannot be imported: {error}.") from error


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _check_names(
    arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], where: str
) -> None:
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {key: p for key, p in parameters.items() if p.kind not in variadic}
    for key in arguments:
        if key not in named and not _takes_any(parameters):
            raise UserError(unknown(f"argument of {where}", key, named))
    missing = [key for key, p in named.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise UserError(f"{where} needs a value for {choices(missing)}.")


def _hints(build: Callable[..., Any]) -> dict[str, Any]:
    function: Any = build.__init__ if inspect.isclass(build) else build
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations only a type checker can follow are not ours to judge


def _check_types(arguments: Mapping[str, Any], hints: Mapping[str, Any], what: str) -> None:
    for key, value in arguments.items():
        nested = isinstance(value, Mapping) and TARGET in value
        if key in hints and not nested and not fits(value, hints[key]):
            raise UserError(f"{what}.{key} cannot be {value!r}; valid: {in_words(hints[key])}.")
