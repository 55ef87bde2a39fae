"""Hulls, fronts and guesses on networks small enough to try everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compressors.policies import policy_yaml
from evaluation.probing.probe import Finding, Probe
from search.front.volumes import non_dominated
from search.sensitivity.coding import Coding, Settings
from search.sensitivity.descent import hull
from search.sensitivity.genetic import evolve
from search.sensitivity.probing import Findings
from search.sensitivity.surrogates import Additive, LogitAdditive
from search.sensitivity.work import Work
from tests.search.sensitivity.synthetic import BITS, Network

NETWORK = Network(4)
CODING = Coding(NETWORK.space)
WORK = Work(CODING)
ALL = np.array(list(product(range(len(BITS)), repeat=4)), dtype=np.int16)


def table() -> Additive:
    findings = Findings(CODING, WORK)
    findings.learn(findings.wanted()[0], NETWORK.prober()(findings.wanted()[0]))
    return findings.table()


def bytes_of(settings: Settings) -> np.ndarray:
    return WORK.totals(settings)[:, :1]


def points(rows: np.ndarray) -> np.ndarray:
    settings = CODING.settings(rows)
    return np.column_stack([table()(settings), bytes_of(settings)])


def test_the_hull_is_the_lower_hull_of_everything() -> None:
    everything, found = points(ALL), points(hull(CODING, table(), bytes_of))
    for price in np.geomspace(1e-5, 1e1, 40) * everything[:, 0].max():
        best = (everything[:, 0] + price * everything[:, 1]).min()
        assert (found[:, 0] + price * found[:, 1]).min() <= best * 1.03


def test_the_genetic_front_is_nearly_that_of_everything() -> None:
    def losses(settings: Settings) -> np.ndarray:
        return np.column_stack([np.log(table()(settings)), bytes_of(settings)])

    start = hull(CODING, table(), bytes_of)
    found = [evolve(CODING, losses, start, np.random.default_rng(0), 20) for _ in range(2)]
    assert (found[0] == found[1]).all()
    best = losses(CODING.settings(ALL[non_dominated(losses(CODING.settings(ALL)))]))
    mine = losses(CODING.settings(found[0]))
    missed = [not (np.abs(mine - point) < 1e-9).all(axis=1).any() for point in best]
    assert np.mean(missed) < 0.1


def test_logits_of_one_change_give_its_own_distance() -> None:
    random = np.random.default_rng(0)
    start = random.normal(size=(6, 5)).astype(np.float32)
    changes = random.normal(size=(CODING.width, 6, 5)).astype(np.float32)
    changes[CODING.starts] = 0
    guess = LogitAdditive("l", changes.reshape(CODING.width, -1), start, start, True, shrink=1.0)
    row = np.zeros((1, 4), dtype=np.int16)
    row[0, 2] = 3
    moved = start + changes[CODING.starts[2] + 3]
    before, after = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (start, moved))
    expected = (before * np.log(before / after)).sum(axis=1).mean()
    assert guess(CODING.settings(row))[0] == pytest.approx(expected, rel=1e-4)
    assert guess(CODING.settings(row * 0))[0] < 1e-6


def test_what_scores_say_nothing_about_is_measured() -> None:
    findings = Findings(CODING, WORK)
    prober = NETWORK.prober(nan=("layer1",))
    (scores,) = findings.wanted()
    assert (scores.kind, len(scores.policies)) == ("scores", 4 * len(BITS))
    findings.learn(scores, prober(scores))
    (changes,) = findings.wanted()
    assert changes.kind == "changes"
    named = [policy_yaml.load(text).layers[0].name for text in changes.policies]
    assert named == ["layer1"] * len(BITS)
    findings.learn(changes, prober(changes))
    assert findings.wanted() == []
    assert findings.table().table == pytest.approx(table().table)


def test_probes_that_failed_leave_a_guess_in_order() -> None:
    findings = Findings(CODING, WORK)
    while wanted := findings.wanted():
        for probe in wanted:
            findings.learn(probe, None)
    guess = findings.table().table.reshape(4, len(BITS))
    assert (np.diff(guess, axis=1) > 0).all()


def test_around_a_middle_near_choices_are_probed_once() -> None:
    findings = Findings(CODING, WORK)
    asked: list[Probe] = []
    middle = np.array([0, 2, 5, 3], dtype=np.int16)
    while wanted := findings.wanted(middle):
        for probe in wanted:
            asked.append(probe)
            findings.learn(probe, NETWORK.prober()(probe))
    around = [probe for probe in asked if probe.around]
    assert len(around) == 1
    assert len(around[0].policies) == 1 + 1 + 2 + 1 + 2  # nothing, then the neighbours
    names = [guess.name for guess in findings.surrogates(middle)]
    assert names == ["gauss_newton", "logit_additive"]
    assert findings.wanted(middle) == []


def test_a_change_that_the_middle_does_not_take_is_no_guess_at_all() -> None:
    """It is not a number, and what is known of the others stays."""
    middle = np.array([0, 2, 5, 3], dtype=np.int16)

    def guesses(refused: int | None) -> np.ndarray:
        findings = Findings(CODING, WORK)
        while wanted := findings.wanted(middle):
            for probe in wanted:
                found = NETWORK.prober()(probe)
                if probe.around and refused is not None:
                    assert found.changes is not None
                    found.changes[refused] = np.nan
                findings.learn(probe, found)
        logits = findings.surrogates(middle)[1]
        rows = middle + np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.int16)
        return logits(CODING.settings(rows))

    whole, without = guesses(None), guesses(1)  # of the first layer's next choice
    assert np.isfinite(without).all()
    assert without[[0, 2]] == pytest.approx(whole[[0, 2]])
    assert without[1] > without[0]  # by the table


def test_findings_without_outputs_leave_the_scores_alone() -> None:
    findings = Findings(CODING, WORK)
    middle = np.array([0, 2, 5, 3], dtype=np.int16)
    while wanted := findings.wanted(middle):
        for probe in wanted:
            findings.learn(probe, Finding(np.ones(len(probe.policies)), 1.0))
    assert [guess.name for guess in findings.surrogates(middle)] == ["gauss_newton"]
