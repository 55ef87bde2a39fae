"""The README's table of techniques, row by row: applied, and held against both targets' tables."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from compressors.policies import policy_yaml
from compressors.policies.policy import Policy
from compressors.record import CompressedModel
from compressors.stack import Stack
from evaluation.target import Target
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.storage.storage import Storage
from tests.compressors.architectures import build, data_for

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| .* \| `((?:remove|prune|heads|lowrank|sparsify|quantize): .*)` \| (.*) \| (.*) \|$"
)
ROWS = [found.groups() for line in README.splitlines() if (found := ROW.match(line))]
LINEAR, CONVOLUTION = ("transformer", "encoder.layers.0.linear1"), ("resnet", "layer2.1.conv1")
# Where a step goes in the models of the tests.
PLACES = {
    "heads": ("transformer", "encoder.layers.0.self_attn"),
    "smooth": LINEAR,
    "by_row": LINEAR,
    "prune": ("resnet", "layer1.0.conv1"),
}


@cache
def stack(name: str) -> Stack:
    return Stack(build(name), data_for(name))


def place_of(words: str) -> tuple[str, str]:
    """The model and the layer that a row's step is tried on."""
    step = next((own for own in ("smooth", "by_row") if own in words), words.partition(":")[0])
    return PLACES.get(step, CONVOLUTION)


def compressed(model: str, layer: str, words: str) -> CompressedModel:
    """The model with the row's step taken."""
    text = words if words.startswith("remove") else f"layers: {{{layer}: {{{words}}}}}"
    return stack(model).apply(policy_yaml.load(f"version: 1\n{text}\n"))


def status(done: CompressedModel, target: Target) -> str:
    """What becomes of a model on a target, in the table's words."""
    table = target.capability
    if any(table.refusal(layer) for layer in done.record.layers):
        return "refused"
    if any("sparsify" in table.simulated(layer) for layer in done.record.layers):
        return "simulated"
    fewer = [layer for layer in done.record.layers if layer.weight_bits or layer.sparsity]
    return "real" if not fewer or table.integer_activations else "bytes"


def test_the_table_is_there() -> None:
    assert len(ROWS) == 18


def places(words: str, said: str) -> list[tuple[tuple[str, str], str]]:
    """Where a row's step is tried, and what is to become of it there."""
    of_linear, apart, elsewhere = said.partition(" for `Linear`, else ")
    return [(LINEAR, of_linear), (CONVOLUTION, elsewhere)] if apart else [(place_of(words), said)]


CASES = [
    (words, place, here, storage)
    for words, ort, storage in ROWS
    for place, here in places(words, ort)
]


@pytest.mark.parametrize(
    ("words", "place", "ort", "storage"), CASES, ids=[f"{case[1][1]}-{case[0]}" for case in CASES]
)
def test_a_row_says_what_happens(
    words: str, place: tuple[str, str], ort: str, storage: str, tmp_path: Path
) -> None:
    model, layer = place
    done = compressed(model, layer, words)
    plain = stack(model).apply(Policy()).record
    assert (done.record.layers, done.record.removed_blocks) != (plain.layers, ())
    for said, target in ((ort, OrtCpu(cache_dir=str(tmp_path))), (storage, Storage())):
        assert status(done, target) == said
        if said == "refused":
            continue
        artifact = target.lower(done, data_for(model), tmp_path / f"model{target.suffix}")
        assert artifact.size_bytes > 0
