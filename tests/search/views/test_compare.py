from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from compressors.errors import UserError
from search.front import front
from search.front.front_files import Validation
from search.study.ledger import StudyRows
from search.views import compare, compare_picture
from search.views.compare_data import (
    Compared,
    check,
    curves,
    latency_panels,
    lines,
    names,
    size_panels,
)
from tests.search.views import studies


def compared(target: str, seed: int = 0, **timing: object) -> Compared:
    rows = replace(studies.study(30, seed), target=target, name=f"study-{target}-{seed}")
    found = front.find(rows)
    validation = studies.validation(list(found.members), rows.trials[0])
    assert validation.timing is not None
    return Compared(rows, found, replace(validation, timing=replace(validation.timing, **timing)))


def without_latency(study: Compared) -> Compared:
    """As a target that cannot time leaves it: no latency anywhere."""

    def short(rows: StudyRows) -> StudyRows:
        return replace(
            rows,
            objectives=(rows.objectives[0], rows.objectives[2]),
            reference=stripped(rows.reference),
            trials=tuple(
                replace(
                    row,
                    values=(row.values[0], row.values[2]) if row.values else None,
                    measurement=stripped(row.measurement),
                )
                for row in rows.trials
            ),
        )

    def stripped(found: studies.Measurement | None) -> studies.Measurement | None:
        kept = [v for v in found.values if v.metric.name != "latency_ms"] if found else []
        return studies.Measurement(tuple(kept)) if found else None

    rows = short(study.rows)
    return Compared(rows, front.find(rows), studies.untimed(study.validation))


MEASURED = compared("ort_cpu")
SIMULATED = compared("npu_sim", 1, basis="computed", floor=None, noisy=frozenset())
UNTIMED = without_latency(compared("tensorrt"))
ALL = (MEASURED, SIMULATED, UNTIMED)


def test_panels_of_a_kind_have_the_same_axes_and_hold_every_front() -> None:
    for found in (latency_panels(ALL), size_panels(ALL)):
        assert len({(p.x_range, p.y_range, p.log) for _, p in found}) == 1
        for _, panel in found:
            assert all(panel.shows(mark) for mark in panel.members)
    assert [number for number, _ in latency_panels(ALL)] == [0, 1]
    assert [number for number, _ in size_panels(ALL)] == [0, 1, 2]


def test_the_floor_is_a_line_where_it_was_measured() -> None:
    (_, measured), (_, simulated) = latency_panels(ALL)
    assert (measured.floor, measured.floor_shown) == (0.05, True)
    assert simulated.floor is None


def test_speed_ups_are_over_each_studys_own_model() -> None:
    first, second, third = curves(ALL)
    assert third.points == ()
    for curve, study in ((first, MEASURED), (second, SIMULATED)):
        base = study.validation.reference
        for point in curve.points:
            row = study.front.member(point.trial)
            exported = study.validation.of(row)
            ratio = base["latency_ms"].value / exported["latency_ms"].value
            assert point.speedup == pytest.approx(ratio, rel=0.1)
            assert point.latency_ms == exported["latency_ms"].value
    for curve in (first, second):
        assert list(curve.steps) == sorted(curve.steps, key=lambda p: (-p[0], -p[1]))


def test_figures_not_measured_yet_are_the_searchs_against_the_searchs() -> None:
    fresh = replace(MEASURED, validation=Validation())
    (curve, _) = curves((fresh, SIMULATED))
    base = fresh.rows.reference["latency_ms"].value
    for point in curve.points:
        row = fresh.front.member(point.trial)
        assert point.speedup == base / row.measurement["latency_ms"].value
    assert lines((fresh, SIMULATED))[0].latencies == "not measured yet"


def test_the_table_tells_how_latencies_came_about_and_the_best_within_a_drop() -> None:
    measured, simulated, untimed = lines(ALL)
    files = len(MEASURED.front.members) + 1
    assert measured.latencies == f"measured; 1 of {files} files noisy"
    assert simulated.latencies == "computed: a simulation"
    assert untimed.latencies == "not timed: no TensorRT is installed here"
    assert measured.floor.startswith("0.0500 ms")
    assert names(ALL) == ["ort_cpu", "npu_sim (a simulation)", "tensorrt"]
    base = MEASURED.validation.reference
    for drop, within in zip((0.005, 0.01), measured.within, strict=True):
        kept = {
            row.number: MEASURED.validation.of(row)["speedup"].value
            for row in MEASURED.front.members
            if MEASURED.validation.of(row)["error"].value <= base["error"].value + drop + 1e-9
        }
        if not kept:
            assert within.fastest == ""
            continue
        best = max(kept, key=lambda number: kept[number])
        assert within.fastest.endswith(f"trial {best}")
    assert any(within.fastest for within in measured.within)
    assert all(within.fastest == "" for within in untimed.within)
    assert any(within.smallest for within in untimed.within)


def test_two_studies_of_one_target_go_by_their_names() -> None:
    found = names((MEASURED, compared("ort_cpu", 5)))
    assert found == ["ort_cpu, study-ort_cpu-0", "ort_cpu, study-ort_cpu-5"]


def test_other_tasks_and_single_studies_are_refused() -> None:
    other = replace(SIMULATED, rows=replace(SIMULATED.rows, task="digits_mlp"))
    with pytest.raises(UserError, match="different tasks do not compare: digits_resnet20, digits"):
        check((MEASURED, other))
    with pytest.raises(UserError, match="two studies or more"):
        check((MEASURED,))


def test_the_page_calls_a_simulation_one_and_escapes_names() -> None:
    nasty = replace(MEASURED, rows=replace(MEASURED.rows, target="<b>x</b>"))
    page = compare.render((nasty, SIMULATED, UNTIMED))
    assert "<b>x</b>" not in page
    assert "npu_sim (a simulation)" in page
    assert "computed by a model of a machine" in page
    assert "hypervolumes of different objectives do not compare" in page


def test_studies_without_any_timing_have_a_page_and_a_picture(tmp_path: Path) -> None:
    both = (UNTIMED, without_latency(compared("other", 3)))
    page = compare.write(tmp_path / "c.html", both).read_text()
    assert 'id="overlay"' not in page
    assert 'id="size-1"' in page
    compare_picture.write(tmp_path / "c.png", both)
    with Image.open(tmp_path / "c.png") as image:
        assert image.width > 1000


def test_more_studies_than_colours(tmp_path: Path) -> None:
    many = [compared(f"t{k}", k) for k in range(9)]
    compare_picture.write(tmp_path / "c.png", many)
    data = compare.overlay(many, curves(many))
    looks = [(curve["color"], curve["symbol"]) for curve in data["curves"]]
    assert len(set(looks)) == 9
