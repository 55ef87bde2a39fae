"""What may not change between the runs of a study, and the difference in words where it did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compressors.errors import UserError
from evaluation.measurement import Metric
from search.space.space import Space
from search.study.ledger import Objective

MOST = 8  # differences shown
FREE = {  # arguments that change no trial's figures, by the node in which they lie
    "task": ("cache_dir",),
    "target": ("cache_dir", "timeout_s", "memory_mb"),
}


def identity(
    space: Space,
    objectives: Sequence[Objective],
    constraints: Mapping[str, float],
    task: Mapping[str, Any],
    target: Mapping[str, Any],
    quality: Metric,
) -> dict[str, Any]:
    """Everything that makes trials of one study comparable, as JSON-ready data."""
    made = {
        "space": space.signature(),
        "objectives": [vars(objective) for objective in objectives],
        "constraints": dict(constraints),
        "task": dict(task),
        "target": dict(target),
        "quality": vars(quality),
    }
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return plain


def require_same(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a study whose identity differs, printing where."""
    changes = list(differences(_bound(before), _bound(now)))
    if not changes:
        return
    more = f"; and {len(changes) - MOST} more" if len(changes) > MOST else ""
    raise UserError(
        f"The study '{name}' was started with other settings, so its trials would not compare: "
        f"{'; '.join(changes[:MOST])}{more}. Set them back, or set study.name to start another."
    )


def _bound(made: Mapping[str, Any]) -> dict[str, Any]:
    """The identity without what may differ between runs."""
    return {
        part: {k: v for k, v in value.items() if k not in FREE[part]} if part in FREE else value
        for part, value in made.items()
    }


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Each value added, removed or changed, in words."""
    if isinstance(before, Mapping) and isinstance(now, Mapping) and not _is_leaf(before, now):
        for key in dict.fromkeys((*before, *now)):
            path = f"{where} {key}" if where.endswith("knobs") else f"{where}.{key}".lstrip(".")
            if key not in now:
                yield f"{path} removed (was {_short(before[key])})"
            elif key not in before:
                yield f"{path} added ({_short(now[key])})"
            else:
                yield from differences(before[key], now[key], path)
    elif before != now:
        yield f"{where} changed from {_short(before)} to {_short(now)}"


def _is_leaf(*nodes: Mapping[str, Any]) -> bool:
    """A range, or an objective, reads best as a whole."""
    return any("low" in node or "direction" in node for node in nodes)


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "values" in value:
        value = value["values"]
    if isinstance(value, Mapping) and "low" in value:
        return f"{value['low']:g} to {value['high']:g}"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return ", ".join(str(entry.get("name", entry)) for entry in value)
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
