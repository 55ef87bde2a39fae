from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.measurement import Measurement, Value
from search.front import front
from search.front.front import Front
from search.front.front_files import Validation
from search.study.ledger import StudyRows
from search.views import report
from search.views.report_data import cards, departure, duels, failures, verdict
from search.views.strips import strips
from tests.search.views import studies

ROWS = studies.study(60)
FRONT = front.find(ROWS)
VALIDATION = studies.validation(list(FRONT.members), ROWS.trials[0])


def changed(measurement: Measurement, **values: float) -> Measurement:
    return Measurement(
        tuple(replace(v, value=values.get(v.metric.name, v.value)) for v in measurement.values)
    )


def test_headlines_choose_on_validation_and_tell_the_test_figures() -> None:
    first, second = FRONT.members[0], FRONT.members[1]
    two = replace(FRONT, members=(first, second))
    base = VALIDATION.reference
    exported = {
        # Faster, but a point and a half worse on validation; on the test split it looks better.
        first.policy_id: changed(
            base, error=base["error"].value + 0.015, test_error=0.0, speedup=9.0, size_bytes=1e5
        ),
        second.policy_id: changed(base, test_error=0.5, speedup=3.0, size_bytes=3e5),
    }
    found = cards(ROWS, two, Validation(exported, base))
    assert [card.trial for card in found] == [second.number, first.number]
    assert found[0].promise == "No loss on validation"
    assert found[0].gains[0] == ("3.0×", "faster")  # noqa: RUF001
    assert "50.00 %" in found[0].loss
    assert found[1].promise == "At most 2 points lost on validation"


@pytest.mark.parametrize(
    ("speedup", "spread", "says"),
    [
        (0.989, 0.015, ("1.0×", "as fast")),  # noqa: RUF001
        (0.97, 0.015, ("1.03×", "slower")),  # noqa: RUF001
        (0.5, 0.015, ("2.0×", "slower")),  # noqa: RUF001
        (1.03, 0.015, ("1.03×", "faster")),  # noqa: RUF001
    ],
)
def test_a_headline_says_faster_only_beyond_the_spread(
    speedup: float, spread: float, says: tuple[str, str]
) -> None:
    base = VALIDATION.reference
    assert base is not None
    small = changed(base, speedup=speedup, size_bytes=base["size_bytes"].value / 8)
    exported = Measurement(
        tuple(
            replace(v, spread=spread if v.metric.name == "speedup" else None) for v in small.values
        )
    )
    member = FRONT.members[0]
    one = replace(FRONT, members=(member,))
    (card,) = cards(ROWS, one, Validation({member.policy_id or "": exported}, base))
    assert card.gains == (says, ("8.0×", "smaller"))  # noqa: RUF001


def test_without_any_gain_there_is_no_headline() -> None:
    only = Front(ROWS.trials[:1], None, None, None, ROWS.trials[0])
    assert cards(ROWS, only, Validation()) == []


def test_every_uniform_baseline_meets_the_mixed_policies() -> None:
    found = duels(ROWS, FRONT)
    assert [duel.name for duel in found] == ["int8", "half width"]
    for duel in found:
        loser = ROWS.trials[duel.trial]
        beaten = any(
            front.dominates(row, loser, ROWS.objectives)
            for row in ROWS.complete()
            if row.baseline is None
        )
        assert (duel.winner is not None) == beaten
    assert verdict(ROWS, found).startswith("Yes: every uniform baseline (2)")


def test_uniform_baselines_that_were_stopped_early_are_told_of() -> None:
    rows = replace(
        ROWS,
        trials=tuple(
            replace(row, state="stopped_early", values=None) if row.baseline == "int8" else row
            for row in ROWS.trials
        ),
    )
    found = duels(rows, front.find(rows))
    assert "(1)" in verdict(rows, found)
    assert "that ended in full" in verdict(rows, found)
    assert "Of the others 1 stopped early" in verdict(rows, found)
    assert verdict(rows, []).startswith("No uniform baseline ended in full; 1 stopped early")


def test_a_study_where_uniform_wins_says_so() -> None:
    worse = [
        replace(row, values=tuple(10 * v + 1 for v in row.values))
        if row.values and row.baseline is None
        else row
        for row in ROWS.trials
    ]
    rows = replace(ROWS, trials=tuple(worse))
    found = duels(rows, front.find(rows))
    assert verdict(rows, found).startswith("Not yet")
    assert "100 % of the whole hypervolume" in verdict(rows, found)


def test_failures_are_grouped_by_reason() -> None:
    rows = replace(ROWS, trials=(*ROWS.trials, studies.failed(60, "Out of memory.")))
    found = failures(rows)
    assert [(f.reason.split()[0], len(f.trials)) for f in found] == [("Recovery", 3), ("Out", 1)]


def test_a_departure_is_told_only_beyond_both_spreads() -> None:
    metric = studies.ERROR
    assert departure(Value(metric, 0.02, 0.007), Value(metric, 0.03, 0.007)) == ""
    assert "2.00 %" in departure(Value(metric, 0.02, 0.001), Value(metric, 0.05, 0.001))


def test_strips_hold_what_the_records_say() -> None:
    found = strips(ROWS, FRONT)
    assert found.columns == tuple(studies.LAYERS)
    assert [strip.trial for strip in found.strips] == [row.number for row in FRONT.members]
    for strip, row in zip(found.strips, FRONT.members, strict=True):
        removed = set(row.record["removed_blocks"])
        for name, cell in zip(found.columns, strip.cells, strict=True):
            assert cell.removed == (name.rsplit(".", 1)[0] in removed)
            layers = [x for x in row.record["layers"] if x["source"] == name]
            if layers:
                assert cell.bits == layers[0]["weight_bits"]
                assert cell.rank == layers[0]["rank"]
                full = layers[-1]["out_channels"] + layers[-1]["removed_channels"]
                assert cell.width == pytest.approx(layers[-1]["out_channels"] / full)
    assert found.groups[1] == ("layer1", 6)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows(tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script>"
    rows = replace(ROWS, name="a<b>", trials=(*ROWS.trials, studies.failed(60, nasty)))
    (tmp_path / "config.yaml").write_text(f"note: '{nasty}'\n")
    page = report.write(rows, tmp_path, FRONT, VALIDATION).read_text()
    assert nasty not in page
    assert "a&lt;b&gt;" in page
    for outside in ('src="', '<link rel="stylesheet', "@import", 'href="http'):
        assert outside not in page.replace("plotly", "")[:60_000]


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    first = report.write(ROWS, tmp_path, FRONT, VALIDATION).read_bytes()
    assert report.write(ROWS, tmp_path, FRONT, VALIDATION).read_bytes() == first


def nothing() -> StudyRows:
    return StudyRows("empty", "t", "x", studies.OBJECTIVES, None, ())


@pytest.mark.parametrize(
    "rows",
    [nothing(), studies.study(1), replace(studies.study(5), objectives=studies.OBJECTIVES[:1])],
    ids=["empty", "reference only", "three objectives or one"],
)
def test_small_studies_have_a_report_too(rows: StudyRows, tmp_path: Path) -> None:
    if len(rows.objectives) == 1:
        short = tuple(replace(r, values=r.values[:1] if r.values else None) for r in rows.trials)
        rows = replace(rows, trials=short)
    page = report.write(rows, tmp_path, validation=Validation()).read_text()
    assert "</html>" in page


def test_the_page_tells_no_passwords(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "storage: postgresql+psycopg2://me:s3cr@t/1@db.example:5432/studies\n"
        "tracking: {uri: 'https://me:s3cr:et@mlflow.example/?token=s3cret'}\n"
        "words: ['storage=postgresql://db/studies?user=me&password=s3cret']\n"
        "output_dir: kept/at:home\n"
    )
    page = report.write(ROWS, tmp_path, FRONT, VALIDATION).read_text()
    assert "s3cr" not in page
    assert "postgresql+psycopg2://me:***@db.example:5432/studies" in page
    assert "https://me:***@mlflow.example/" in page
    assert "kept/at:home" in page
