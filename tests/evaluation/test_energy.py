"""Energy: by a model, against sums by hand; and by counters, from a folder that plays them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluation.costs.counters import Drawn, counters, joules_of
from evaluation.costs.energy import Prices, modelled
from evaluation.work import Work

LINEAR = Work("fc", "linear", "50x20 @1", 1000, 1000, 20, 50)


def with_bits(work: Work, weights: int | None, activations: int | None) -> Work:
    return Work(**{**vars(work), "weight_bits": weights, "activation_bits": activations})


def test_a_layer_by_hand() -> None:
    found = modelled([LINEAR])
    assert (found.metric.name, found.metric.unit) == ("energy_uj", "uJ")
    picojoules = 1000 * 4.6 + 4000 * 162.5 + 280 * 12.5
    assert found.value == pytest.approx(picojoules * 1e-6)
    small = modelled([with_bits(LINEAR, 4, 8)] * 2)
    picojoules = 1000 * (0.2 / 2 + 0.1) + 500 * 162.5 + 70 * 12.5
    assert small.value == pytest.approx(2 * picojoules * 1e-6)


def test_weights_alone_in_bits_save_bytes_and_no_arithmetic() -> None:
    picojoules = 1000 * 4.6 + 500 * 162.5 + 280 * 12.5
    assert modelled([with_bits(LINEAR, 4, None)]).value == pytest.approx(picojoules * 1e-6)


def test_the_model_meets_the_figures_that_it_is_from() -> None:
    prices = Prices()
    assert prices.mac(8, 8) == pytest.approx(0.3)
    assert prices.mac(32, 32) - prices.add == pytest.approx(3.1, rel=0.05)
    assert prices.dram_byte * 4 == pytest.approx(640, rel=0.02)  # 32 bits (Han et al., 2015)


def test_sums_of_eight_bit_floats_are_floats() -> None:
    integers = with_bits(LINEAR, 8, 8)
    floats = Work(**{**vars(integers), "float_inputs": True})
    more = modelled([floats]).value - modelled([integers]).value
    assert more == pytest.approx(1000 * (0.9 - 0.1) * 1e-6)


def test_zeros_count_unless_they_are_skipped() -> None:
    zeros = Work(**{**vars(LINEAR), "zeros": 0.75})
    assert modelled([zeros]) == modelled([LINEAR])
    saved = modelled([LINEAR]).value - modelled([zeros], {"fc": 0.75}).value
    assert saved == pytest.approx(750 * 4.6e-6)


def test_a_table_is_read_by_rows_and_large_features_leave_the_chip() -> None:
    table = Work("e", "embedding", "30000x64 @2", 0, 30000 * 64, 2, 128)
    assert modelled([table]).value == pytest.approx((512 * 162.5 + 130 * 4 * 12.5) * 1e-6)
    large = Work("c", "conv2d", "1x1x1x1 s1 p0 d1 g1 @600x600", 360000, 1, 360000, 360000)
    expected = 360000 * 4.6 + 4 * 162.5 + 720000 * 4 * 162.5
    assert modelled([large]).value == pytest.approx(expected * 1e-6)


Zone = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own GPUs are left out."""
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    """Writes a domain of a powercap folder."""

    def write(name: str, said: str, microjoules: int, most: int = 1_000_000) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in (
            ("name", said),
            ("energy_uj", microjoules),
            ("max_energy_range_uj", most),
        ):
            (folder / file).write_text(f"{text}\n")
        return folder

    return write


def spend(zones: list[Path], microjoules: int, most: int = 1_000_000) -> Callable[[], None]:
    """A call that draws so much of every zone."""

    def call() -> None:
        for folder in zones:
            now = int((folder / "energy_uj").read_text()) + microjoules
            (folder / "energy_uj").write_text(str(now % most))

    return call


def test_packages_are_counted_and_what_is_within_them_is_not(zone: Zone, tmp_path: Path) -> None:
    packages = [zone("intel-rapl:0", "package-0", 7), zone("intel-rapl:1", "package-1", 9)]
    zone("intel-rapl:0:0", "core", 3)
    zone("intel-rapl:2", "psys", 3)
    found = counters(tmp_path)
    assert [each.name for each in found] == ["package-0 (intel-rapl:0)", "package-1 (intel-rapl:1)"]
    drawn = joules_of(spend(packages, 100), 0.0, found)
    assert drawn is not None
    assert drawn.calls == 1
    assert drawn.joules == pytest.approx(2 * 100e-6)


def test_a_counter_that_begins_again_is_understood(zone: Zone, tmp_path: Path) -> None:
    package = zone("intel-rapl:0", "package-0", 999_900)
    found = counters(tmp_path)
    drawn = joules_of(spend([package], 60), 0.0, found)  # one call to warm up, one counted
    assert drawn is not None
    assert int((package / "energy_uj").read_text()) == 20
    assert drawn.joules == pytest.approx(60e-6)


def test_calls_go_on_for_the_time_given(zone: Zone, tmp_path: Path) -> None:
    package = zone("intel-rapl:0", "package-0", 0, most=10**12)
    drawn = joules_of(spend([package], 50, 10**12), 0.05, counters(tmp_path))
    assert drawn is not None
    assert drawn.calls > 1
    assert drawn.seconds >= 0.05
    assert drawn.joules == pytest.approx(drawn.calls * 50e-6)


def test_energy_is_of_one_sample() -> None:
    found = Drawn(joules=3.0, calls=10, seconds=1.0).energy(samples=5)
    assert found.metric.unit == "mJ"
    assert found.value == pytest.approx(60)


@pytest.mark.parametrize("broken", ["energy_uj", "name", "max_energy_range_uj"])
def test_what_cannot_be_read_is_absent(zone: Zone, tmp_path: Path, broken: str) -> None:
    folder = zone("intel-rapl:0", "package-0", 7)
    (folder / broken).unlink()
    (folder / broken).mkdir()  # root may read any file, but no folder
    assert counters(tmp_path) == []


def test_a_machine_without_counters_measures_nothing(tmp_path: Path) -> None:
    found = counters(tmp_path / "missing")
    assert found == []
    assert joules_of(lambda: pytest.fail("nothing to run for"), 1.0, found) is None


class NoDriver(Exception):
    """What the library raises."""


def library(readings: list[int], *, driver: bool = True) -> SimpleNamespace:
    def begin() -> None:
        if not driver:
            raise NoDriver

    return SimpleNamespace(
        NVMLError=NoDriver,
        nvmlInit=begin,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: readings.pop(0),
    )


def test_gpus_count_in_millijoules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library([1, 5000, 7500]))
    found = counters(tmp_path)
    assert [each.name for each in found] == ["gpu0"]
    drawn = joules_of(lambda: None, 0.0, found)
    assert drawn is not None
    assert drawn.joules == pytest.approx(2.5)
    monkeypatch.setitem(sys.modules, "pynvml", library([], driver=False))
    assert counters(tmp_path) == []
