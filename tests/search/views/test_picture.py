from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from evaluation.measurement import ERROR
from search.front import front
from search.front.front_files import Validation
from search.study.ledger import Objective, StudyRows
from search.views import picture
from search.views.figures import duration, margin, points, times, words
from search.views.labels import Label, place
from search.views.plot_data import panels
from search.views.ticks import ticks
from tests.search.views import studies

ROWS = studies.study(40)
FRONT = front.find(ROWS)
VALIDATION = studies.validation(list(FRONT.members), ROWS.trials[0])


def test_the_picture_is_drawn_and_not_empty(tmp_path: Path) -> None:
    picture.write(tmp_path / "front.png", ROWS, FRONT, VALIDATION)
    with Image.open(tmp_path / "front.png") as image:
        assert image.width > 1500
        colors = image.convert("RGB").getcolors(1 << 20)
    teal = tuple(int(picture.FRONT[k : k + 2], 16) for k in (1, 3, 5))
    assert any(color == teal for _, color in colors)
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("trials", [0, 1, 4])
def test_small_studies_have_a_picture_too(objectives: int, trials: int, tmp_path: Path) -> None:
    rows = studies.study(trials) if trials else replace(ROWS, trials=(), reference=None)
    short = tuple(replace(r, values=r.values[:objectives]) for r in rows.trials)
    rows = replace(rows, trials=short, objectives=rows.objectives[:objectives])
    picture.write(tmp_path / "front.png", rows, front.find(rows), Validation())
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_marks_lie_where_the_exported_file_was_measured() -> None:
    latency = panels(ROWS, FRONT, VALIDATION)[0]
    assert (latency.x.name, latency.y.name, latency.log) == ("latency_ms", "error", True)
    for mark in latency.members:
        row = FRONT.member(mark.trial)
        assert mark.x == VALIDATION.of(row)["latency_ms"].value
        assert mark.search_x == row.measurement["latency_ms"].value
    drawn = len(latency.members) + len(latency.baselines) + len(latency.others)
    assert drawn == len(ROWS.complete()) - 1  # the uncompressed model is the reference


def test_quality_is_the_vertical_axis_wherever_it_stands_among_the_objectives() -> None:
    turned = replace(
        ROWS,
        objectives=ROWS.objectives[::-1],
        trials=tuple(replace(r, values=r.values[::-1] if r.values else None) for r in ROWS.trials),
    )
    assert {p.y.name for p in panels(turned, front.find(turned), Validation())} == {ERROR.name}


def test_junk_far_above_does_not_squeeze_the_front() -> None:
    rows = with_junk(ROWS)
    panel = panels(rows, front.find(rows), Validation())[0]
    assert panel.y_range[1] < 0.1
    assert panel.hidden >= 1


def with_junk(rows: StudyRows) -> StudyRows:
    cheap = rows.trials[-1]
    broken = studies.Measurement(
        tuple(
            replace(v, value=0.9 if v.metric.name == "error" else v.value / 3)
            for v in cheap.measurement.values
        )
    )
    values = tuple(broken[o.name].value for o in rows.objectives)
    return replace(
        rows, trials=(*rows.trials, replace(cheap, number=99, values=values, measurement=broken))
    )


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    rng = random.Random(1)
    points = [(rng.uniform(50, 950), rng.uniform(50, 550)) for _ in range(40)]
    labels = [Label(x, y, 60, 14) for x, y in points]
    within = (0.0, 0.0, 1000.0, 600.0)
    placed = [
        (label, c) for label, c in zip(labels, place(labels, points, within), strict=True) if c
    ]
    assert len(placed) > 20
    boxes = [(x - 30, y - 7, x + 30, y + 7) for _, (x, y) in placed]
    for index, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[3] <= 600
        for b in boxes[index + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        for x, y in points:
            assert not (a[0] < x < a[2] and a[1] < y < a[3])


@pytest.mark.parametrize(
    ("limits", "unit", "log"),
    [((0.14, 0.75), "ms", True), ((1e5, 2e6), "bytes", True), ((-0.002, 0.03), "fraction", False)],
)
def test_ticks_are_few_round_and_inside(limits: tuple[float, float], unit: str, log: bool) -> None:
    found = ticks(limits, unit, log)
    assert 3 <= len(found) <= 10
    assert all(limits[0] <= value <= limits[1] for value, _ in found)
    assert len({text for _, text in found}) == len(found)


def test_numbers_read_as_people_write_them() -> None:
    assert words(311_700, "bytes") == "312 kB"
    assert words(0.4123, "ms") == "0.412 ms"
    assert words(0.01333, "fraction") == "1.33 %"
    assert words(1_234_567, "count") == "1.23 M"
    assert margin(0.00682, "ms") == "0.0068 ms"
    assert (times(4.26), times(12.3)) == ("4.3×", "12×")  # noqa: RUF001
    assert (points(0.0051), points(0.0)) == ("+0.51 points", "±0 points")
    assert (duration(3.2), duration(75), duration(7300)) == ("3.2 s", "1 min 15 s", "2 h 01 min")
    assert Objective("error", "fraction", "minimize") == studies.OBJECTIVES[0]
