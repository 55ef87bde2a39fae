"""Finds attentions whose heads can be removed: torch's opened ones, and those that users wrote.

A candidate is a module with an integer that says its number of heads, or the size of one, and
linear layers for queries, keys and values, separate or packed; the next linear layer that reads
as many values is its output. What counts is a trial on a copy: with one head cut, and noise in
place of what the attention sees, the output layer must read what it read of the other heads, and
the model's outputs must keep their shapes. Heads that share keys, and packings in any other
order, do not pass. Knows nothing of which heads matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from torch import Tensor, nn

from compressors.structures.attention import OpenAttention
from compressors.structures.head_trial import HeadTrial
from compressors.structures.structure import Attention
from compressors.structures.tracing import Trace

_COUNTS = (
    "num_heads",
    "num_attention_heads",
    "num_key_value_heads",
    "n_heads",
    "n_head",
    "nheads",
    "nhead",
    "num_head",
    "head_num",
    "heads",
    "h",
)
_SIZES = ("head_dim", "attention_head_size", "dim_head", "head_size", "d_head", "dim_per_head")
_ROLES = (
    ("qkv", r"qkv|query_key_value"),
    ("kv", r"kv|key_value"),
    ("q", r"q|query|queries"),
    ("k", r"k|key|keys"),
    ("v", r"v|value|values"),
)
_NAME = r"(to_|w_?|fc_?|lin_|linear_|proj_)?({})(_?(proj|projection|lin|linear|layer|fc|net))?"
_MOST_SIZES = 4  # integers of a module that might have to follow its heads


def find_attentions(
    model: nn.Module, example: tuple[Tensor, ...], seen: Trace, layers: Sequence[str]
) -> tuple[Attention, ...]:
    """The attentions whose layers are among these, which run once and share no weight."""
    linear = [name for name in layers if isinstance(model.get_submodule(name), nn.Linear)]
    found: list[Attention] = []
    taken: set[str] = set()
    deepest_first = sorted(model.named_modules(), key=lambda item: -item[0].count("."))
    for name, module in deepest_first:
        if not name or len(seen.calls_of(module)) != 1:
            continue
        candidate = _candidate(name, module, model, [n for n in linear if n not in taken])
        if candidate is not None:
            found.append(candidate)
            taken |= {*candidate.packed(), candidate.output}
    if not found:
        return ()
    trial = HeadTrial(model, example)
    passed = {a.name: a for a in trial.that_pass(found, lambda a: _variants(a, model))}
    names = [call.name for call in seen.calls]
    return tuple(sorted(passed.values(), key=lambda attention: names.index(attention.name)))


def _candidate(
    name: str, module: nn.Module, model: nn.Module, linear: list[str]
) -> Attention | None:
    counts = [key for key in _COUNTS if _is_count(getattr(module, key, None))]
    size = next((key for key in _SIZES if _is_count(getattr(module, key, None))), None)
    inputs = _inputs([n for n in linear if n.startswith(f"{name}.")], model)
    if inputs is None or not (counts or size):
        return None
    query, key, value = inputs
    width, values = (_values(layer, inputs, model) for layer in (query, value))
    heads = getattr(module, counts[0]) if counts else width // getattr(module, size or "")
    output = _output(name, inputs, values, model, linear)
    same = width == _values(key, inputs, model)
    if output is None or not same or heads < 2 or width % heads or values % heads:
        return None
    paths = tuple(f"{name}.{key}" for key in counts if getattr(module, key) == heads)
    return Attention(name, heads, query, key, value, output, paths)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _inputs(names: list[str], model: nn.Module) -> tuple[str, str, str] | None:
    """The layers of queries, keys and values: by their names, or the first that are alike."""
    roles = {role: name for name in reversed(names) if (role := _role(name)) is not None}
    if "qkv" in roles:
        return (roles["qkv"],) * 3
    if "q" in roles and "kv" in roles:
        return roles["q"], roles["kv"], roles["kv"]
    if {"q", "k", "v"} <= set(roles):
        return roles["q"], roles["k"], roles["v"]
    sizes = [
        (_linear(model, name).in_features, _linear(model, name).out_features) for name in names
    ]
    if len(names) >= 3 and len({outputs for _, outputs in sizes[:3]}) == 1:
        return names[0], names[1], names[2]
    if len(names) >= 2 and sizes[0][1] == 3 * sizes[1][0]:
        return (names[0],) * 3
    return None


def _role(name: str) -> str | None:
    last = name.rpartition(".")[2].lower()
    return next((role for role, words in _ROLES if re.fullmatch(_NAME.format(words), last)), None)


def _values(layer: str, inputs: tuple[str, str, str], model: nn.Module) -> int:
    """How many values a position has as query (or key, or value), all heads together."""
    return _linear(model, layer).out_features // inputs.count(layer)


def _output(
    name: str, inputs: tuple[str, ...], values: int, model: nn.Module, linear: list[str]
) -> str | None:
    """The next layer that reads as many values, in the attention or beside it."""
    after = linear[max(linear.index(layer) for layer in inputs) + 1 :]
    parent = name.rpartition(".")[0]
    for scope in (f"{name}.", f"{parent}." if parent else ""):
        for layer in after:
            if layer.startswith(scope) and _linear(model, layer).in_features == values:
                return layer
    return None


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _variants(attention: Attention, model: nn.Module) -> Iterator[Attention]:
    """The attention with every choice of integers that may have to follow its heads."""
    module = model.get_submodule(attention.name)
    if isinstance(module, OpenAttention):
        yield attention
        return
    inputs = (attention.query, attention.key, attention.value)
    widths = {_values(layer, inputs, model) for layer in inputs}
    sizes = [
        path
        for key, value in vars(module).items()
        if type(value) is int and value in widths
        if (path := f"{attention.name}.{key}") not in attention.counts
    ][:_MOST_SIZES]
    for count in range(len(sizes) + 1):
        for chosen in combinations(sizes, count):
            yield replace(attention, sizes=chosen)
