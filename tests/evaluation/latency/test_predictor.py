"""Predictions with a real runtime: one number for everybody, prices that are measured once."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from compressors.policies.policy import LayerPolicy, Policy
from compressors.policies.steps import Quantize
from compressors.stack import apply
from evaluation.latency.predictor import PREPARING, Predictor
from evaluation.measuring.files import Files
from evaluation.measuring.limits import MeasurementError
from evaluation.measuring.operators import YARDSTICK, Price
from evaluation.measuring.remembered import Latency
from evaluation.target import Artifact
from evaluation.targets.ort_cpu.target import OrtCpu
from tests.evaluation.tiny import LAYERS, TinyTask

CROWD = 3
BURNING = 2  # processes beside them


def lowered(folder: Path, name: str, integers: Sequence[str]) -> Artifact:
    task = TinyTask()
    layers = tuple(LayerPolicy(layer, quantize=Quantize(8, 8)) for layer in integers)
    compressed = apply(task.model(), Policy(layers=layers), task)
    return OrtCpu().lower(compressed, task, folder / f"{name}.onnx")


def predicted(cache: Path, artifact: Artifact, reference: Artifact) -> float:
    return OrtCpu(cache_dir=str(cache)).latency(artifact, reference).value


def predictor(cache: Path, **settings: int) -> Predictor:
    found = OrtCpu(cache_dir=str(cache), **settings)._latencies
    assert isinstance(found, Predictor)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("files")
    names = {"float": (), "int8": LAYERS, "mixed": LAYERS[1:3], "other": LAYERS[:1]}
    return {name: lowered(folder, name, integers) for name, integers in names.items()}


@pytest.fixture(scope="module")
def prepared(
    files: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A cache in which a model was prepared and some operators have prices; what was told."""
    cache, told = tmp_path_factory.mktemp("cache"), []
    target = OrtCpu(cache_dir=str(cache))
    for _ in range(2):
        target.prepare(files["float"], lambda: [files["int8"]], told.append)
    target.latency(files["float"], files["float"])
    predictor(cache)._priced(files["mixed"].path, files["float"])
    return cache, told


@pytest.fixture
def cache(prepared: tuple[Path, list[str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[0], tmp_path / "cache"))


def test_it_is_told_once_that_operators_are_measured(prepared: tuple[Path, list[str]]) -> None:
    assert prepared[1] == [f"ort_cpu: {PREPARING} …"]


BURN = [sys.executable, "-c", "while True: pass"]  # imports nothing, which would take seconds


def test_a_crowd_on_a_loaded_machine_is_told_what_one_alone_is_told(
    cache: Path, files: dict[str, Artifact], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(cache, tmp_path / "copy"))
    known = {name: predicted(copy, files[name], files["float"]) for name in ("mixed", "int8")}
    load: list[subprocess.Popen[bytes]] = []
    try:
        with multiprocessing.get_context("spawn").Pool(CROWD) as pool:
            for name in ("mixed", "int8", "other"):  # the last has operators without a price
                work = [(cache, files[name], files["float"])] * CROWD
                (told,) = set(pool.starmap(predicted, work, chunksize=1))
                known.setdefault(name, predicted(cache, files[name], files["float"]))
                assert told == known[name] > 0
                load = load or [subprocess.Popen(BURN) for _ in range(BURNING)]  # all is imported
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert len(set(known.values())) == 3


def test_only_operators_without_a_price_are_measured(
    cache: Path, files: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = predictor(cache)
    asked: list[int] = []
    prices = type(own.files).prices

    def counted(self: object, path: Path, keys: Sequence[str], beside: Path) -> object:
        asked.append(len(keys))
        return prices(self, path, keys, beside)  # type: ignore[arg-type]

    monkeypatch.setattr(type(own.files), "prices", counted)
    table = own.table(files["float"])
    before = table.path.read_text()
    own.latency(files["mixed"], files["float"])
    assert (asked, table.path.read_text()) == ([], before)
    new = table.missing(own.files.operators(files["other"].path))
    own.latency(files["other"], files["float"])
    grown = table.path.read_text()
    assert asked == [len(new)]
    assert grown.startswith(before)
    assert 0 < len(grown.splitlines()) - len(before.splitlines()) <= len(new)


def test_the_uncompressed_models_latency_is_as_it_was_measured(
    cache: Path, files: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.measuring.files.noise", lambda _: 1.0)  # no better figure now
    measured = OrtCpu(cache_dir=str(cache), latency="measured")
    reference = files["float"]
    assert predicted(cache, reference, reference) == measured.latency(reference, reference).value


def test_a_damaged_correction_is_fitted_anew_and_damaged_prices_are_measured_anew(
    cache: Path, files: dict[str, Artifact]
) -> None:
    own = predictor(cache)
    path = own._path(files["float"])
    path.write_text(path.read_text()[:-30])
    table = own.table(files["float"]).path
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:-1], lines[-1].partition(",")[0], "\n\0,;\n"]))
    told: list[str] = []
    target = OrtCpu(cache_dir=str(cache))
    target.prepare(files["float"], lambda: [files["int8"]], told.append)
    assert told
    assert predictor(cache)._known(files["float"]) is not None
    assert target.latency(files["mixed"], files["float"]).value > 0
    again = predictor(cache).table(files["float"])
    assert again.missing(own.files.operators(files["mixed"].path)) == []


def test_threads_batches_and_models_have_tables_of_their_own(
    cache: Path, files: dict[str, Artifact]
) -> None:
    settings: list[dict[str, int]] = [{}, {"threads": 2}, {"batch": 8}]
    models = (files["float"], files["int8"])
    found = {predictor(cache, **each).table(model).path for each in settings for model in models}
    assert len(found) == len(settings) * len(models)


def test_the_spread_covers_what_the_correction_gets_wrong(
    cache: Path, files: dict[str, Artifact]
) -> None:
    own = predictor(cache)
    known = own._known(files["float"])
    assert known is not None
    own._corrections[files["float"].signature] = replace(known, departure=0.5)
    found = own.latency(files["mixed"], files["float"])
    assert found.spread is not None
    assert found.spread >= 0.5 * found.value


def test_an_operator_that_cannot_stand_alone_is_tried_once(
    files: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = predictor(tmp_path)
    asked: list[list[str]] = []

    def prices(_: Files, path: Path, keys: Sequence[str], beside: Path) -> dict[str, Price]:
        asked.append(list(keys))
        priced = dict.fromkeys(keys[1:], Price(0.01, 0.001))  # the first has none
        return {**priced, YARDSTICK: Price(0.1, 0.001)}

    monkeypatch.setattr(Files, "prices", prices)
    model = files["float"]
    operators = found._priced(model.path, model)
    assert found._priced(model.path, model) == operators
    assert len(asked) == 1
    assert not predictor(tmp_path).table(model).missing(operators)  # nor by another process


def test_predictions_are_remembered_apart_from_measurements(tmp_path: Path) -> None:
    found = predictor(tmp_path)
    found.files.latencies.put("signature", Latency(1.0, 0.1))
    assert found._remembered.get("signature") is None


def test_a_sample_that_stops_the_runtime_is_left_out_of_the_fit(
    cache: Path, files: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, reference = predictor(cache), files["float"]
    own._path(reference).unlink()
    quickly, tried = Files.quickly, []

    def stopped(self: Files, paths: Sequence[Path]) -> object:
        tried.append(len(paths))
        if files["mixed"].path in paths:
            raise MeasurementError("The runtime crashed (SIGSEGV).")
        return quickly(self, paths)

    monkeypatch.setattr(Files, "quickly", stopped)
    own.prepare(reference, lambda: [files["mixed"], files["int8"]])
    assert tried == [3, 2, 2, 2]  # together, each alone, and the rest together
    assert own._known(reference) is not None

    def always(self: Files, paths: Sequence[Path]) -> object:
        raise MeasurementError("The runtime crashed (SIGSEGV).")

    again = predictor(cache)
    again._path(reference).unlink()
    monkeypatch.setattr(Files, "quickly", always)
    with pytest.raises(MeasurementError):  # the uncompressed model's own file
        again.prepare(reference, list)
