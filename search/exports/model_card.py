"""MODEL_CARD.md: what a compressed model is, what it costs, and how it came to be.

Words only, made from an export's package; knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compressors.policies import policy_yaml
from compressors.policies.policy import ORIGINAL, Policy, Recovery, Rounds
from evaluation.measurement import Measurement, Value
from search.exports.stated import Package
from search.views import record_words
from search.views.figures import points, spread_words, times, title

_LOAD = """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
outputs = session.run(None, {{session.get_inputs()[0].name: batch}})  # float32, batch first
```
"""


def card(package: Package, file: str) -> str:
    """The whole card, in Markdown."""
    name = f"trial {package.trial} of {package.study}" if package.study else "a policy file"
    parts = [
        f"# {package.task}, compressed for {package.target}\n",
        f"Made from {name}; policy `{policy_yaml.policy_id(package.policy)}`, in `policy.yaml`.\n",
        "## Figures\n",
        _figures(package),
        "Measured on the exported file. Times come from one run, alone on the machine, "
        "interleaved with the uncompressed model's file. ± is a standard error, or half a 95 % "
        "interval for times. The test split took no part in any choice.\n",
        "## What was done\n",
        *_done(package),
        "## Use\n",
        _LOAD.format(file=file) if file.endswith(".onnx") else f"The model is `{file}`.\n",
        "## Make it again\n",
        "On this checkpoint or a newer one of the same network:\n",
        f"```\nparedown apply policy.yaml task={package.task} target={package.target}\n```\n",
    ]
    return "\n".join(parts)


def _figures(package: Package) -> str:
    lines = ["| | uncompressed | this model | change |", "|---|--:|--:|--:|"]
    for value in package.exported.values:
        base = _find(package.reference, value.metric.name)
        before = spread_words(base) if base and value.metric.name != "speedup" else ""
        change = _change(value, base) if base else ""
        lines.append(f"| {_name(value)} | {before} | {spread_words(value)} | {change} |")
    simulated = package.search.values[0]
    lines.append(f"| {_name(simulated)}, simulated | | {spread_words(simulated)} | |")
    return "\n".join(lines) + "\n"


def _name(value: Value) -> str:
    name = title(value.metric.name)
    plain = value.metric.unit == "fraction" and not value.metric.name.startswith("test_")
    return f"validation {name}" if plain else name


def _change(value: Value, base: Value) -> str:
    if value.metric.unit == "fraction":
        return points(value.value - base.value)
    if value.metric.name == "speedup" or value.value <= 0 or base.value <= 0:
        return ""
    ratio = base.value / value.value
    return f"{times(ratio)} less" if ratio >= 1 else f"{times(1 / ratio)} more"


def _done(package: Package) -> Iterable[str]:
    record = package.record
    removed = ", ".join(f"`{name}`" for name in record.get("removed_blocks") or ())
    if removed:
        yield f"Blocks removed: {removed}.\n"
    heads = ", ".join(f"`{name}` {kept}" for name, kept in record_words.heads(record))
    if heads:
        yield f"Heads kept: {heads}.\n"
    yield from _whole(package.policy)
    yield _recovery(package.policy.recovery)
    layers = record.get("layers") or ()
    if layers:
        head = "| layer | kind | channels | weights | activations | zeros | rank |"
        rows = "\n".join(_layer(layer) for layer in layers)
        yield f"{head}\n|---|---|--:|--:|--:|--:|--:|\n{rows}\n"
    simulated = record_words.simulated(layers)
    if simulated:
        yield (
            f"Simulated, as {package.target} has no kernel that gains by it: "
            f"{', '.join(simulated)}.\n"
        )
    for note in record.get("notes") or ():
        yield f"Note: {note}\n"


def _layer(layer: Mapping[str, Any]) -> str:
    kept, gone = layer["out_channels"], layer["removed_channels"]
    channels = f"{kept} of {kept + gone}" if gone else str(kept)
    bits = f"{record_words.weights(layer)} | {record_words.activations(layer)}"
    rank = "" if layer["rank"] is None else str(layer["rank"])
    name, kind = layer["name"], layer["kind"]
    return f"| `{name}` | {kind} | {channels} | {bits} | {record_words.zeros(layer)} | {rank} |"


def _whole(policy: Policy) -> Iterable[str]:
    """What was done to the model as a whole."""
    if policy.student != ORIGINAL:
        yield f"Started from the task's architecture `{policy.student}`.\n"
    if policy.rounds != Rounds():
        yield (
            f"Pruned in up to {policy.rounds.count} rounds, each with {policy.rounds.epochs} "
            "epochs of training.\n"
        )
    if policy.equalize:
        yield "Channels of layers that follow each other were evened out before quantising.\n"


def _recovery(recovery: Recovery) -> str:
    if not recovery.epochs:
        return "No training after the compression.\n"
    teacher = "the uncompressed model"
    if recovery.teacher != ORIGINAL:
        teacher = f"the task's model `{recovery.teacher}`"
    weights = {"hidden values": recovery.features, "attention maps": recovery.attention}
    hidden = "".join(f", and its {what} with weight {w:g}" for what, w in weights.items() if w)
    return (
        f"Then {recovery.epochs} epochs of training ({recovery.optimizer}, learning rate "
        f"{recovery.learning_rate:g}, {recovery.schedule}), {100 * recovery.weight:.0f} % of the "
        f"loss from {teacher}'s outputs at temperature {recovery.temperature:g}{hidden}.\n"
    )


def _find(measurement: Measurement, name: str) -> Value | None:
    return next((v for v in measurement.values if v.metric.name == name), None)
