"""The target that looks up: its answers against the device's own, of policies never profiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import LowRank, Prune, Quantize
from compressors.stack import Stack
from evaluation.evaluator import Evaluator
from evaluation.target import FLOAT, INT8
from evaluation.target_extras import PricesEnergy
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.table.target import Table
from tests.evaluation.profiling.profiled import FILE
from tests.evaluation.tiny import LAYERS, TinyTask

TASK = TinyTask()
INTEGERS = Quantize(8, 8)
STACK = Stack(TASK.model(), TASK)


def policies() -> list[Policy]:
    halves = {name: Prune(0.5, multiple=8) for name in ("stem", "block.one", "down")}
    found = [Policy(), Policy(layers=tuple(LayerPolicy(n, quantize=INTEGERS) for n in LAYERS))]
    found += [Policy(layers=(LayerPolicy(name, quantize=INTEGERS),)) for name in LAYERS]
    found += [Policy(layers=(LayerPolicy(name, prune=prune),)) for name, prune in halves.items()]
    every = tuple(LayerPolicy(n, prune=halves.get(n), quantize=INTEGERS) for n in LAYERS)
    low = LayerPolicy("block.two", lowrank=LowRank(rank=8), quantize=INTEGERS)
    return [*found, Policy(layers=every), Policy(layers=(low,))]


def test_policies_are_priced_as_the_device_takes(tmp_path: Path) -> None:
    table, device = Table(str(FILE)), NpuSim()
    for policy in policies():
        model = STACK.apply(policy)
        real = device.lower(model, TASK, tmp_path / "real.bin")
        known = table.lower(model, TASK, tmp_path / "known.bin")
        found = table.latency(known, known)
        assert found.value == pytest.approx(device.latency(real, real).value, rel=0.03)
        assert table.energy(known).value == pytest.approx(device.energy(real).value, rel=0.03)
        (timing,) = table.compare(known.path, [known.path])
        assert (timing.median_ms, timing.spread_ms) == (found.value, found.spread)
        assert timing.speedup == 1


def test_its_capability_is_that_of_the_rows() -> None:
    table = Table(str(FILE))
    assert table.capability.precisions == dict.fromkeys(("linear", "conv2d"), (FLOAT, INT8))
    assert table.capability.channel_multiple == 8
    assert table.basis == "looked up"
    assert isinstance(table, PricesEnergy)


def test_an_evaluation_has_its_figures(tmp_path: Path) -> None:
    evaluator = Evaluator(TASK, Table(str(FILE)))
    found = evaluator.evaluate(Policy(), tmp_path / "m.safetensors").measurement
    assert found["latency_ms"].value == pytest.approx(0.051184)
    assert found["energy_uj"].value == pytest.approx(17.6591264)


def test_a_table_without_energy_leaves_it_to_the_model_for_any_machine(tmp_path: Path) -> None:
    lines = FILE.read_text().splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if line.startswith("op,")) + 1
    for n in range(start, len(lines)):
        words = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", lines[n])
        lines[n] = ",".join([*words[:5], "", *words[6:]])
    (tmp_path / "t.csv").write_text("".join(lines))
    bare, full = Table(str(tmp_path / "t.csv")), Table(str(FILE))
    artifact = full.lower(STACK.apply(Policy()), TASK, tmp_path / "m.bin")
    assert bare.latency(artifact, artifact) == full.latency(artifact, artifact)
    assert 0 < bare.energy(artifact).value != full.energy(artifact).value


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# departure: 0.0", "# departure: x", "its departure is 'x"),
        ("# batch: 1", "# batch: many", "its batch is 'many'"),
        ("# channel multiple: 8", "# channel multiple: ?", "its channel multiple is '?'"),
        ("# paredown", "# somebody's", "its first line is not"),
    ],
)
def test_a_foreign_table_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = FILE.read_text()
    assert old in text
    (tmp_path / "t.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=re.escape(said)):
        Table(str(tmp_path / "t.csv"))


def test_another_batch_than_the_tables_is_refused() -> None:
    assert Table(str(FILE), batch=1).batch == 1
    with pytest.raises(UserError, match=r"target.batch cannot be 2: .* was measured with 1"):
        Table(str(FILE), batch=2)


def test_the_configuration_names_its_arguments() -> None:
    path = Path(__file__).resolve().parents[3] / "conf/target/table.yaml"
    told = yaml.safe_load(path.read_text())
    assert told.pop("_target_") == f"{Table.__module__}.{Table.__name__}"
    assert told.pop("name") == Table.name
    Table(**{**told, "file": str(FILE)})
