"""What the newer steps did is told: in words, on the report's strips, on a model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from compressors.policies.policy import Policy, Recovery, Rounds
from evaluation.measurement import ERROR, Measurement, Value
from search.exports.model_card import card
from search.exports.stated import Package
from search.front import front
from search.study.ledger import StudyRows
from search.views import record_words, report
from search.views.strips import strips
from tests.search.views import studies

PLAIN = {"weight_bits": 8, "activation_bits": None}
RICH = {
    "weight_bits": 4,
    "weight_function": "kmeans",
    "granularity": "group32",
    "rounding": "gptq",
    "activation_bits": 8,
    "dynamic": True,
    "sparsity": 0.5,
    "pattern": "2:4",
    "simulated": ["sparsify", "quantize.activations"],
}
ATTENTIONS = [
    {"name": "attn", "heads": 8, "removed_heads": 4},
    {"name": "other", "heads": 8, "removed_heads": 0},
]


def enriched(record: dict[str, Any]) -> dict[str, Any]:
    layers = [{**layer, **RICH} for layer in record["layers"]]
    return {**record, "layers": layers, "attentions": ATTENTIONS}


def test_plain_layers_are_told_in_few_words() -> None:
    assert record_words.weights(PLAIN) == "8-bit"
    assert record_words.weights({**PLAIN, "weight_function": "symmetric"}) == "8-bit"
    assert record_words.activations(PLAIN) == "float"
    floats = {**PLAIN, "weight_bits": 8, "activation_bits": 8, "weight_function": "e4m3"}
    assert record_words.activations(floats) == "8-bit"
    floats = {**floats, "inputs": "e4m3", "simulated": ["quantize.activations"]}
    assert record_words.weights(floats) == "8-bit e4m3"
    assert record_words.activations(floats) == "8-bit e4m3"
    assert record_words.simulated_parts([floats]) == "activations of fp8 layers"
    assert record_words.zeros(PLAIN) == ""
    assert record_words.zeros({"sparsity": 0.8}) == "80 %"
    assert record_words.heads({}) == []


def test_strips_and_report_tell_them(tmp_path: Path) -> None:
    plain = studies.study(12)
    trials = [replace(row, record=enriched(row.record)) for row in plain.trials if row.record]
    rows: StudyRows = replace(plain, trials=tuple(trials))
    found = strips(rows, front.find(rows))
    assert found is not None
    assert found.sparse
    cells = [cell for strip in found.strips for cell in strip.cells if not cell.removed]
    said = "4-bit kmeans group32 gptq weights, 8-bit dynamic activations, 50 % (2:4) zeros"
    assert all(cell.sparse and said in cell.words for cell in cells)
    assert {strip.heads for strip in found.strips} == {"attn 4 of 8 heads"}
    page = report.write(rows, tmp_path, front.find(rows)).read_text()
    assert "zeros among the weights" in page
    assert "; attn 4 of 8 heads" in page
    assert "--bits-4" in page
    said = "Simulated on ort_cpu, with no gain there: 2:4 zeros of w4a8 layers, activations of w4a8"
    assert said in page
    assert "Simulated on" not in report.write(plain, tmp_path, front.find(plain)).read_text()


def test_simulated_parts_are_told_by_precision() -> None:
    rounded = {"weight_bits": 4, "activation_bits": 8, "simulated": ["quantize.activations"]}
    zeroed = {**PLAIN, "weight_bits": None, "sparsity": 0.8, "simulated": ["sparsify"]}
    layers = [rounded, {**rounded, "weight_bits": 8}, PLAIN, zeroed, rounded]
    said = "activations of w4a8 and w8a8 layers, zeros of float layers"
    assert record_words.simulated_parts(layers) == said
    assert record_words.simulated_parts([PLAIN]) == ""


def test_a_card_tells_them() -> None:
    policy = Policy(
        student="tiny",
        rounds=Rounds(3, 1),
        equalize=True,
        recovery=Recovery(epochs=4, teacher="large", features=0.5),
    )
    figures = Measurement((Value(ERROR, 0.1),))
    record = enriched(studies.record(studies.INT8))
    package = Package("task", "target", None, None, policy, figures, figures, figures, record)
    text = card(package, "model.onnx")
    assert "| 4-bit kmeans group32 gptq | 8-bit dynamic | 50 % (2:4) |" in text
    assert "Heads kept: `attn` 4 of 8." in text
    assert "architecture `tiny`" in text
    assert "up to 3 rounds" in text
    assert "evened out" in text
    assert "from the task's model `large`'s outputs" in text
    assert "and its hidden values with weight 0.5" in text
    assert "Simulated, as target has no kernel that gains by it: sparsify, quantize.activ" in text
