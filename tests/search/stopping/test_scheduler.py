"""Promises of the scheduler, on streams of trials made up for it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank

from search.stopping import experience, rung
from search.stopping.compared import PATIENCE
from search.stopping.experience import Endings, Unbeaten
from search.stopping.prospects import DOMINATED, HOPELESS
from search.stopping.reports import Decision, Report
from search.stopping.rung import Rung, upper_share
from search.stopping.scheduler import BEHIND, Rules, Scheduler
from search.stopping.worth import Worth
from search.study.problem import Box
from tests.search.stopping.streams import Stream, curves

NEVER = Rules(keep=0.34, explore=0.0, grace=0, confidence=0.9999999)  # stops by rank alone


def stream(rules: Rules, trials: int = 120, workers: int = 4, seed: int = 0) -> Stream:
    return Stream(Scheduler(2, 0, rules), curves(seed), 3, trials, workers, seed).run()


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_every_trial_ends_once_and_runs_are_repeatable(
    seed: int, workers: int, trials: int
) -> None:
    found = stream(Rules(seed=seed), trials, workers, seed)
    assert sorted([*found.finished, *found.stopped]) == list(range(trials))
    assert stream(Rules(seed=seed), trials, workers, seed).told == found.told


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_those_to_compare_with_end_in_full_or_could_not_have_added(seed: int, workers: int) -> None:
    made = curves(seed)

    def measure(trial: int, rung: int) -> Report:
        report = made(trial, rung)
        return replace(report, compared=trial < 6, length=8.0 * (trial % 3))

    rules = Rules(explore=0.0, seed=seed)
    found = Stream(bounded(rules, {}), measure, 3, 90, workers, seed).run()
    assert sorted([*found.finished, *found.stopped]) == list(range(90))
    reasons = {found.stopped[trial][1] for trial in range(6) if trial in found.stopped}
    assert reasons <= {HOPELESS, DOMINATED}


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_explorers_are_never_stopped(seed: int) -> None:
    rules = Rules(explore=0.2, grace=5, seed=seed)
    explorers = {trial for trial in range(120) if Scheduler(2, 0, rules).runs_through(trial)}
    assert explorers
    assert explorers <= set(stream(rules, seed=seed).finished)


def test_the_first_of_every_length_of_training_go_on_from_a_rung() -> None:
    """What is known of those that train long says nothing of those that do not."""
    scheduler = Scheduler(2, 0, Rules(explore=0.0, grace=3))
    through_the_middle(scheduler)  # of length 12
    verdicts: dict[float, list[str]] = {0.0: [], 4.0: []}
    for trial in range(10):
        length = 4.0 * (trial % 2)
        report = Report(trial, 0, (0.9 + trial / 100, 2.0), (0.0, 0.0), length=length)
        verdicts[length].append(scheduler.report(report)[0].verdict)
    assert all(found[:3] == ["go_on"] * 3 for found in verdicts.values())
    assert all("go_on" not in found[3:] for found in verdicts.values())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_nobody_of_the_best_share_is_left_waiting(points: list[tuple[int, int]]) -> None:
    scheduler = Scheduler(2, 0, NEVER)
    went_on: set[int] = set()
    for trial, (error, cost) in enumerate(points):
        decisions = scheduler.report(Report(trial, 0, (error, cost), (0.0, 0.0)))
        went_on |= {d.trial for d in decisions if d.verdict == "go_on"}
        ranks = _fast_non_domination_rank(np.array(points[: trial + 1], dtype=float))
        room = int(0.34 * (trial + 1) + 1e-9)
        surely = [t for t, rank in enumerate(ranks) if (ranks <= rank).sum() <= room]
        assert set(surely) <= went_on


def test_who_stands_far_behind_is_stopped_and_who_stands_near_waits() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    for trial in range(60):  # on a line, each dominated by those before it
        decisions = scheduler.report(Report(trial, 0, (float(trial % 10), 0.0), (0.0, 0.0)))
        if trial == 58:
            assert decisions[0].verdict == "stop"
            assert decisions[0].reason == BEHIND
        if trial >= 50 and trial % 10 in (0, 1):
            assert decisions[0].verdict == "go_on"
        if trial == 53:
            assert decisions[0].verdict == "wait"


def seen_through(scheduler: Scheduler, gains: dict[float, float], cost: float = 0.5) -> None:
    """Trials that started at an error and ended lower by a gain."""
    for number, (error, gain) in enumerate(gains.items()):
        trial = 1000 + number
        report = Report(trial, 0, (error, cost), (0.001, 0.0))
        scheduler.recall(report, went_on=True)
        scheduler.finish(replace(report, rung=1, values=(error - gain, cost)))


def test_who_cannot_catch_up_with_a_finished_trial_is_stopped_at_once() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    seen_through(scheduler, {0.10 + step / 100: 0.01 for step in range(10)})
    decision = scheduler.report(Report(0, 0, (0.15, 0.5), (0.001, 0.0)))[0]
    assert (decision.verdict, decision.reason) == ("stop", DOMINATED)


def test_within_the_confidence_interval_nobody_is_called_dominated() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    seen_through(scheduler, {0.10 + step / 100: 0.01 for step in range(10)})
    assert scheduler.report(Report(0, 0, (0.15, 0.5), (0.05, 0.0)))[0].verdict != "stop"


def test_who_is_expected_on_the_finished_front_goes_on_though_others_are_better_placed() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    seen_through(scheduler, {0.10 + step / 100: 0.01 for step in range(10)})
    verdicts = []
    for trial, cost in enumerate([0.30, 0.31, 0.32, 0.33, 0.34]):  # each beaten by those before it
        report = Report(trial, 0, (0.12 + trial / 100, cost), (0.001, 0.0))
        verdicts.append(scheduler.report(report)[0].verdict)
    assert verdicts == ["go_on"] * 5  # a third of the rung would be the first two
    larger = Report(5, 0, (0.12, 0.6), (0.05, 0.0))  # than a finished trial that is as good
    assert scheduler.report(larger)[0].verdict != "go_on"


def bounded(rules: Rules, finished: dict[int, tuple[float, float]]) -> Scheduler:
    """One that counts hypervolume in the unit square, after trials that ended so."""
    scheduler = Scheduler(2, 0, rules)
    scheduler.within(Box(np.zeros(2), np.ones(2)))
    for trial, values in finished.items():
        scheduler.finish(Report(trial, 1, values, (0.0, 0.0)))
    return scheduler


@pytest.mark.parametrize(("cost", "stops"), [(0.71, True), (0.69, False)])
def test_who_could_add_next_to_nothing_is_stopped_before_anything_is_known(
    cost: float, stops: bool
) -> None:
    """At no error at all a cost of 0.7 adds 0.1 * 0.1 = 0.01 to the 0.72 that is there."""
    rules = Rules(grace=4, explore=0.0, least=0.01 / 0.72)
    scheduler = bounded(rules, {100: (0.0, 0.8), 101: (0.1, 0.2), 102: (0.5, 0.19)})
    assert scheduler.report(Report(0, 0, (0.9, cost), (0.0, 0.0)))[0].reason is (
        HOPELESS if stops else None
    )


def test_nobody_is_hopeless_where_any_gain_will_do_or_where_nothing_finished() -> None:
    nothing = bounded(Rules(grace=4, explore=0.0), {})
    anything = bounded(Rules(grace=4, explore=0.0, least=0.0), {100: (0.0, 0.1)})
    for scheduler in (nothing, anything):
        assert scheduler.report(Report(0, 0, (0.9, 0.8), (0.0, 0.0)))[0].verdict == "go_on"


def test_who_is_expected_to_add_enough_goes_on_and_who_adds_a_little_waits() -> None:
    scheduler = bounded(Rules(grace=0, explore=0.0, keep=0.01, least=0.005), {})
    seen_through(scheduler, {0.20 + step / 100: 0.05 + 0.1 * (step % 2) for step in range(10)})
    much = Report(0, 0, (0.20, 0.40), (0.0, 0.0))
    little = Report(1, 0, (0.20, 0.499), (0.0, 0.0))  # if it is not lucky
    assert [scheduler.report(each)[0].verdict for each in (much, little)] == ["go_on", "wait"]


def test_a_chance_to_add_counts_where_the_mean_would_add_nothing() -> None:
    """Of those alike one of two ends far below the finished front, and the others above it."""
    scheduler = bounded(Rules(grace=0, explore=0.0, keep=0.01, least=0.01), {100: (0.05, 0.3)})
    ends = [0.30, 0.01] * 4
    for trial, end in enumerate(ends, 1000):  # at a cost that adds nothing to the front
        report = Report(trial, 0, (0.5, 0.9), (0.0, 0.0), length=4.0)
        scheduler.recall(report, went_on=True)
        scheduler.finish(replace(report, rung=1, values=(end, 0.9)))
    cheap = Report(0, 0, (0.5, 0.29), (0.0, 0.0), length=4.0)
    assert np.mean(ends) > 0.05
    assert scheduler.report(cheap)[0].verdict == "go_on"


def test_who_started_better_than_all_who_went_on_goes_on() -> None:
    scheduler = bounded(Rules(grace=2, explore=0.0, keep=0.01), {})
    seen_through(scheduler, {0.50 + n / 100: 0.45 + n / 100 for n in range(10)}, cost=0.1)
    better, as_good = (Report(n, 0, (0.3, 0.3), (0.0, 0.0)) for n in range(2))
    assert scheduler.report(better)[0].verdict == "go_on"
    assert scheduler.report(as_good)[0].verdict != "go_on"


def test_who_waits_is_judged_again_once_it_is_known_what_its_like_came_to() -> None:
    """Many workers report before the first of them has come to its end."""
    scheduler = bounded(Rules(grace=4, explore=0.0, keep=0.01), {})
    first = [Report(1000 + n, 0, (0.5 + n / 100, 0.5), (0.0, 0.0)) for n in range(4)]
    assert [scheduler.report(each)[0].verdict for each in first] == ["go_on"] * 4
    assert scheduler.report(Report(0, 0, (0.52, 0.3), (0.0, 0.0)))[0].verdict == "wait"
    for each in first:
        scheduler.finish(replace(each, rung=1, values=(0.05, 0.5)))
    assert Decision(0, "go_on") in scheduler.report(Report(1, 0, (0.9, 0.9), (0.0, 0.0)))


def test_at_the_end_all_who_wait_are_judged_by_what_is_known_by_then() -> None:
    scheduler = bounded(Rules(grace=4, explore=0.0, keep=0.01), {})
    first = [Report(1000 + n, 0, (0.5 + n / 100, 0.5), (0.0, 0.0)) for n in range(4)]
    for each in (*first, Report(0, 0, (0.52, 0.3), (0.0, 0.0))):
        scheduler.report(each)
    for each in first:
        scheduler.finish(replace(each, rung=1, values=(0.05, 0.5)))
    assert scheduler.drain() == [Decision(0, "go_on")]


def test_who_breaks_a_bound_that_others_keep_is_hopeless() -> None:
    scheduler = bounded(Rules(grace=4, explore=0.0), {100: (0.5, 0.5)})
    report = Report(0, 0, (0.1, 0.1), (0.0, 0.0), broken=0.2)
    assert scheduler.report(report)[0].reason == HOPELESS


def test_of_one_objective_dominance_decides() -> None:
    """The best so far takes all the hypervolume there is."""
    scheduler = Scheduler(1, 0, Rules(grace=1, explore=0.0))
    scheduler.within(Box(np.zeros(1), np.ones(1)))
    scheduler.finish(Report(100, 1, (-0.1,), (0.0,)))
    assert scheduler.report(Report(0, 0, (0.5,), (0.0,)))[0].verdict == "go_on"


def compared(trial: int, cost: float) -> Report:
    return Report(trial, 0, (0.9, cost), (0.0, 0.0), length=12.0, compared=True)


def test_of_those_to_compare_with_the_most_hopeful_go_on_one_by_one() -> None:
    scheduler = bounded(Rules(grace=4, explore=0.0), {100: (0.0, 0.9)})
    costs = {0: 0.6, 1: 0.2, 2: 0.58, 3: 0.95}
    first = [scheduler.report(compared(trial, cost))[0] for trial, cost in costs.items()]
    assert [each.verdict for each in first] == ["wait", "wait", "wait", "stop"]
    tick = replace(compared(7, 0.1), length=0.0, compared=False)
    told = [scheduler.report(replace(tick, trial=trial)) for trial in (7, 8)]
    assert [found.trial for found in told[0][1:]] == [1]  # it may add the most
    assert told[1][1:] == []  # while it runs
    assert scheduler.report(replace(compared(1, 0.2), rung=1))[0].verdict == "go_on"
    scheduler.finish(Report(1, 2, (0.0, 0.2), (0.0, 0.0)))
    others = {found.trial: found.reason for found in scheduler.report(replace(tick, trial=9))[1:]}
    assert others == {0: HOPELESS, 2: HOPELESS}


def test_those_to_compare_with_end_in_full_in_the_end_if_they_may_add_a_little() -> None:
    scheduler = bounded(Rules(grace=4, explore=0.0), {100: (0.01, 0.1)})
    assert scheduler.report(compared(0, 0.11))[0].verdict == "wait"
    tick = Report(1, 0, (0.9, 0.05), (0.0, 0.0))
    assert scheduler.report(tick)[1:] == []
    assert scheduler.drain() == [Decision(0, "go_on")]
    assert scheduler.drain() == []


def test_those_to_compare_with_do_not_wait_for_ever() -> None:
    """A search that ends by the clock has them too."""
    scheduler = bounded(Rules(grace=4, explore=0.0), {100: (0.01, 0.1)})
    scheduler.report(compared(0, 0.11))
    for trial in range(200, 200 + PATIENCE):
        scheduler.finish(Report(trial, 1, (0.3, 0.6), (0.0, 0.0)))
    decisions = scheduler.report(Report(1, 0, (0.9, 0.05), (0.0, 0.0)))
    assert Decision(0, "go_on") in decisions


@given(st.lists(st.tuples(*[st.floats(0.0, 1.2)] * 3), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_gains_are_those_of_the_hypervolume(points: list[tuple[float, float, float]]) -> None:
    front, box = Unbeaten(3), Box(np.zeros(3), np.ones(3))
    worth = Worth(box, front)
    for number, point in enumerate(np.array(points)):
        inside = np.minimum(np.array(points[:number]).reshape(-1, 3), 1.0)
        before = compute_hypervolume(inside, np.ones(3)) if number else 0.0
        after = compute_hypervolume(np.vstack([inside, np.minimum(point, 1.0)[None]]), np.ones(3))
        if before > 0.25:  # of fronts that hardly reach into the box shares are rough
            assert worth.gain(point, 0, point[:1]) * before == pytest.approx(
                after - before, rel=0.1, abs=0.02
            )
        front.add(point)
        worth.add(point)


def test_a_result_better_than_was_thought_possible_becomes_the_ideal() -> None:
    front = Unbeaten(2)
    worth = Worth(Box(np.array([0.5, 0.0]), np.ones(2)), front)
    for point in (np.array([0.5, 0.5]), np.array([0.4, 0.5])):
        front.add(point)
        worth.add(point)
    # From the best error on, a quarter less cost is half as much again.
    assert worth.gain(np.array([0.4, 0.25]), 0, np.array([0.4])) == pytest.approx(0.5, abs=0.01)


def test_slow_starters_are_allowed_for_once_their_like_was_seen_to_end_well() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    fast = {0.030 + step / 1000: 0.005 for step in range(10)}
    slow = {0.100 + step / 1000: 0.095 for step in range(10)}
    seen_through(scheduler, fast | slow)
    verdicts = []
    for trial in range(12):  # of one cost; every other one starts slowly
        error = 0.102 + trial / 10000 if trial % 2 else 0.032 + trial / 10000
        verdicts.append(scheduler.report(Report(trial, 0, (error, 0.5), (0.003, 0.0)))[0].verdict)
    assert "go_on" in verdicts[1::2]
    assert "go_on" not in verdicts[2::2]


def through_the_middle(scheduler: Scheduler, trials: int = 24) -> None:
    """Trials whose errors in the middle of training are chance, and who all end near 0.02."""
    chance = np.random.default_rng(0)
    for trial in range(1000, 1000 + trials):
        error, cost = float(chance.uniform(0.02, 0.6)), float(chance.uniform(0.5, 1.0))
        report = Report(trial, 0, (error, cost), (0.01, 0.0), length=12.0)
        scheduler.recall(report, went_on=True)
        end = float(chance.normal(0.02, 0.002))
        scheduler.finish(replace(report, rung=1, values=(end, cost), spreads=(0.004, 0.0)))


def test_where_a_rung_says_nothing_of_the_end_costs_decide() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    through_the_middle(scheduler)
    cheap = Report(0, 0, (0.55, 0.3), (0.01, 0.0), length=12.0)
    dear = Report(1, 0, (0.03, 0.9), (0.01, 0.0), length=12.0)
    assert scheduler.report(cheap)[0].verdict == "go_on"
    (stopped,) = [d for d in (*scheduler.report(dear), *scheduler.drain()) if d.verdict == "stop"]
    assert stopped.trial == 1
    assert stopped.expected is not None
    assert stopped.expected[0] == pytest.approx(0.02, abs=0.01)  # and not 0.03 less a usual gain


def test_expected_qualities_that_only_chance_tells_apart_are_the_same() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    through_the_middle(scheduler)
    expected = set()
    for trial in range(12):
        scheduler.report(Report(trial, 0, (0.1 + trial / 40, 0.9), (0.01, 0.0), length=12.0))
    for decision in scheduler.drain():
        assert decision.expected is not None
        expected.add(decision.expected[0])
    assert expected <= {0.016, 0.02, 0.024}  # in steps of a standard error of the whole split


@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.01, 0.3))
@settings(max_examples=40)
def test_what_is_left_of_a_difference_is_learned(seed: int, left: float, base: float) -> None:
    chance = np.random.default_rng(seed)
    endings = Endings(3, 0)
    for _ in range(40):
        look = np.array([chance.uniform(0, 1), chance.uniform(0, 1), 1.0])
        endings.add(look, base + left * look[0])
    looks = np.column_stack([chance.uniform(0, 1, 9), chance.uniform(0, 1, 9), np.ones(9)])
    assert endings.expected(looks) == pytest.approx(base + left * looks[:, 0])
    for look in looks:
        assert endings.best(look) <= base + left * look[0] + 1e-9


def test_nobody_is_called_dominated_who_started_worse_than_any_that_was_seen_through() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    seen_through(scheduler, {0.10 + step / 100: 0.01 for step in range(10)})
    assert scheduler.report(Report(0, 0, (0.21, 0.5), (0.0, 0.0)))[0].reason != DOMINATED


def test_who_breaks_a_bound_does_not_go_on_before_those_who_keep_it() -> None:
    scheduler = Scheduler(2, 0, Rules(grace=0, explore=0.0))
    for trial in range(9):
        report = Report(trial, 0, (0.5, 0.5 + trial), (0.0, 0.0), broken=float(trial != 8))
        decisions = scheduler.report(report)
    assert [d.trial for d in decisions if d.verdict == "go_on"] == [8]


def test_what_was_recalled_decides_like_what_was_reported() -> None:
    rules = Rules(grace=0, explore=0.0)
    first, second = Scheduler(2, 0, rules), Scheduler(2, 0, rules)
    measure = curves(1)
    decisions = [found for trial in range(40) for found in first.report(measure(trial, 0))]
    ended = {found.trial: found.verdict for found in decisions}
    for trial in range(40):
        second.recall(measure(trial, 0), went_on=ended[trial] == "go_on")
    ours, theirs = first.report(measure(40, 0))[0], second.report(measure(40, 0))[0]
    assert ours == theirs


def test_rungs_find_the_front_of_a_full_search_for_a_third_of_the_work() -> None:
    """Curves made up so that a rung ranks fairly: what is promised is the scheduler's share."""
    trials, cost = 300, {0: 1, 1: 2, 2: 6}  # epochs that a rung adds
    found = stream(Rules(), trials, 8)
    spent = sum(cost[r] * jobs for r, jobs in found.work.items())
    assert spent < 0.45 * trials * sum(cost.values())
    ends = np.array([curves(0)(t, 2).values for t in range(trials)])
    front = np.flatnonzero(_fast_non_domination_rank(ends) == 0)
    assert len(set(front) - set(found.finished)) <= 0.35 * len(front)


def test_at_a_thousand_workers_and_ten_thousand_trials_no_promotion_starves() -> None:
    """Decisions touch a bounded number of trials, and cost under two milliseconds on average."""
    scheduler = bounded(Rules(), {})
    running = Stream(scheduler, curves(0), 3, 10_000, 1_000)
    begun = time.process_time()
    running.run()
    spent = time.process_time() - begun
    assert len(running.finished) + len(running.stopped) == 10_000
    assert not running.waits  # every promotion was taken up
    assert running.longest_wait <= 64  # soon: one report may promote many, and frees one worker
    assert spent / len(running.told) < 0.002
    assert len(scheduler._levels[0].rung) <= 2 * rung.MEMORY
    assert scheduler._levels[0].endings._count <= 2 * experience.MEMORY


def test_a_rank_larger_than_the_share_does_not_pass_in_time() -> None:
    """With three objectives nearly everybody is of the first rank."""
    scheduler = Scheduler(3, 0, Rules(keep=0.34, grace=0, explore=0.0))
    chance = np.random.default_rng(0)
    went_on = 0
    for trial, point in enumerate(chance.dirichlet([1, 1, 1], 200)):  # none dominates another
        report = Report(trial, 0, tuple(map(float, point)), (0.0, 0.0, 0.0))
        went_on += sum(d.verdict == "go_on" for d in scheduler.report(report))
    assert 0.3 * 200 <= went_on <= 0.34 * 200


def test_who_waits_while_many_pass_is_let_go() -> None:
    found = Rung(1, 1)
    one = np.array([1.0])
    total = 2 * rung.MEMORY + 1
    states: list[rung.State] = ["waits" if trial == 5 else "stopped" for trial in range(total)]
    gone = [found.add(trial, one, one, 0.0, state) for trial, state in enumerate(states)]
    assert gone[-1] == [5]
    assert not any(gone[:-1])


@pytest.mark.parametrize(("share", "count"), [(0.3, 4), (0.3, 400), (0.5, 1)])
def test_the_interval_is_wilsons(share: float, count: int) -> None:
    upper = upper_share(share, count, 1.96)
    assert share < upper <= 1
    assert (upper - share) ** 2 == pytest.approx(1.96**2 * upper * (1 - upper) / count)
