"""A profile against the target whose times are known exactly, stopped half-way and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.errors import UserError
from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.stack import Stack
from evaluation.measuring import files
from evaluation.measuring.limits import MeasurementError
from evaluation.measuring.sampling import Effort
from evaluation.profiling import copies, table_file
from evaluation.profiling.profile import Profile, Settings
from evaluation.profiling.table_file import FACTOR, KINDS, PACE, POLICY, START
from evaluation.target import INT8, Precision
from evaluation.targets.npu_sim.target import NpuSim
from evaluation.targets.ort_cpu.target import OrtCpu
from evaluation.targets.table.target import Table
from tests.evaluation.profiling.profiled import Coarse, TwoLayers
from tests.evaluation.tiny import TinyTask

SMALL = Settings((INT8,), 4)


@pytest.fixture(autouse=True)
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST", 2)


def test_what_is_profiled_is_priced_as_the_device_takes(tmp_path: Path) -> None:
    path, task, told = tmp_path / "t.csv", TwoLayers(), []
    device = Coarse(batch=3)
    found = Profile(device, task, path, SMALL).run(lambda *now: told.append(now))
    assert found.left_out == ()
    assert found.departures == pytest.approx([0.0] * len(found.departures), abs=1e-6)
    assert found.departures
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    table, stack = Table(str(path)), Stack(task.model(), task)
    assert table.batch == 3
    for names in ((), ("0",), ("4",), ("0", "4")):
        entries = tuple(LayerPolicy(name, quantize=Quantize(8, 8)) for name in names)
        model = stack.apply(Policy(layers=entries))
        real = device.lower(model, task, tmp_path / "real.bin")
        known = table.lower(model, task, tmp_path / "known.bin")
        assert table.latency(known, known).value == pytest.approx(device.latency(real, real).value)
        assert table.energy(known).value == pytest.approx(device.energy(real).value)
        (timing,) = table.compare(known.path, [known.path])
        assert timing.median_ms == pytest.approx(device.latency(real, real).value)


def test_a_profile_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "t.csv", 0

    def compare(self: NpuSim, reference: Path, candidates: list[Path]) -> list[object]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyboardInterrupt
        return whole(self, reference, candidates)

    whole = NpuSim.compare
    monkeypatch.setattr(NpuSim, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        Profile(Coarse(), TwoLayers(), path, SMALL).run()
    begun = table_file.read(path)
    assert len(begun.of(*KINDS)) == 4
    with pytest.raises(UserError, match="was not finished; start the same"):
        Table(str(path))
    done = Profile(Coarse(), TwoLayers(), path, SMALL).run().table
    assert set(begun.rows) < set(done.rows)
    before = asked
    again = Profile(Coarse(), TwoLayers(), path, SMALL).run().table
    assert (again.rows, asked) == (done.rows, before)
    assert {row.op for row in done.rows} >= {PACE, POLICY, START, FACTOR, "conv2d", "linear"}


def test_a_file_of_other_conditions_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Profile(Coarse(), TwoLayers(), path, SMALL).run()
    with pytest.raises(UserError, match="begun with batch 1, and it is 2 here"):
        Profile(Coarse(batch=2), TwoLayers(), path, SMALL)
    with pytest.raises(UserError, match="begun with task two_layers"):
        Profile(Coarse(), TinyTask(), path, SMALL)


def test_a_layer_that_stops_the_runtime_is_left_out_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = NpuSim.compare

    def compare(self: NpuSim, reference: Path, candidates: list[Path]) -> list[object]:
        if any(path.name == "layer1-1.safetensors" for path in candidates):
            raise MeasurementError("The runtime crashed")
        return whole(self, reference, candidates)

    monkeypatch.setattr(NpuSim, "compare", compare)
    found = Profile(Coarse(), TwoLayers(), tmp_path / "t.csv", SMALL).run()
    assert all("The runtime crashed" in words for words in found.left_out)
    assert len(found.left_out) == 2  # the second of each run of four and of two
    assert len(found.table.of(*KINDS)) == 4


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Precision w12a8 is not profiled of this target; valid: float"
    ):
        Profile(Coarse(), TwoLayers(), tmp_path / "t.csv", Settings((Precision(12, 8),)))
    with pytest.raises(UserError, match="policies cannot be 1; valid: a whole number from 4"):
        Settings(policies=1)


def test_a_real_runtime_is_profiled_by_its_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = Effort(1, 2, 3, 5, seconds=0.01, warm_seconds=0.02, burst_least=0)
    monkeypatch.setattr(files, "SEARCH", hasty)
    monkeypatch.setattr(files, "TOGETHER", hasty)
    path, target = tmp_path / "t.csv", OrtCpu(cache_dir=str(tmp_path / "cache"))
    found = Profile(target, TwoLayers(), path, SMALL).run().table
    assert found.facts["runtime"] == target.files.latencies.conditions["runtime"]
    layers = found.of(*KINDS)
    assert {(row.op, row.precision) for row in layers} == {
        (kind, precision) for kind in ("conv2d", "linear") for precision in ("float", "w8a8")
    }
    assert all(row.median_ms > 0 for row in found.of(*KINDS, POLICY, PACE))
    assert Table(str(path)).capability.channel_multiple == 8
