from __future__ import annotations

from dataclasses import replace

import pytest

from search.front import front
from search.front.front_files import Validation
from search.views.prediction import prediction
from search.views.timing_words import searched_how, sentences
from tests.search.views import studies

ROWS = studies.study(60)
FRONT = front.find(ROWS)
VALIDATION = studies.validation(list(FRONT.members), ROWS.trials[0])
TIMING = VALIDATION.timing


def told(**timing: object) -> str:
    assert TIMING is not None
    changed = replace(VALIDATION, timing=replace(TIMING, **timing))
    how = searched_how(ROWS, {"target": {"latency": "predicted"}}, changed.timing)
    return " ".join(sentences(ROWS, changed, how))


def test_the_mean_departure_is_that_of_the_members() -> None:
    found = prediction(ROWS, FRONT, VALIDATION, "predicted")
    assert found is not None
    departures = [
        abs(r.measurement["latency_ms"].value / VALIDATION.of(r)["latency_ms"].value - 1)
        for r in FRONT.members
    ]
    mean = 100 * sum(departures) / len(departures)
    assert f"the prediction departs from the measurement by {mean:.1f} %" in found.sentence()
    assert f"the most, {100 * max(departures):.1f} %" in found.sentence()
    assert found.stated == pytest.approx(0.01)  # the spread of the fixture's latencies
    assert "1 of the measurements are noisy" in found.sentence()
    assert [pair.noisy for pair in found.pairs].count(True) == 1


def test_there_is_nothing_to_hold_against_where_nothing_was_timed() -> None:
    assert TIMING is not None
    computed = replace(VALIDATION, timing=replace(TIMING, basis="computed"))
    for validation in (Validation(), studies.untimed(VALIDATION), computed):
        assert prediction(ROWS, FRONT, validation, "predicted") is None


def test_the_words_say_how_latencies_came_about() -> None:
    assert "predicted from the prices" in told()
    assert "measured on the exported files" in told()
    assert "Dispatch floor: an almost empty model takes 0.0500 ms" in told()
    assert "Noisy:" in told()
    assert "Noisy:" not in told(noisy=frozenset())
    assert "a simulation: nothing was timed" in told(basis="computed")
    assert "looked up in a table" in told(basis="looked up")
    assert "cannot time here, as no runtime" in told(untimed="no runtime is installed here")


def test_how_the_search_had_its_latencies() -> None:
    assert searched_how(ROWS, {"target": {"latency": "measured"}}, None) == "measured"
    assert searched_how(ROWS, {}, TIMING) == "measured"
    assert searched_how(ROWS, {}, None) == ""
    assert searched_how(replace(ROWS, reference=None), {}, TIMING) == ""
