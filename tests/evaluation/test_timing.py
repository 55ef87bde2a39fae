"""Timing tells the slower from the faster, with an interval, and leaves the collector as it was."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from evaluation.measuring import sampling
from evaluation.measuring.sampling import Block, Effort
from evaluation.measuring.timing import (
    QUICK,
    departure,
    interleaved,
    noise,
    timings,
    widened,
)
from evaluation.target import Timing

FEW = Effort(blocks=3, least=7, most=15, seconds=0.1, warm_seconds=0.1)


@dataclass
class Core:
    """A made-up core with a clock of its own, which `others` compute on too, in turns with us."""

    others: int = 0
    now: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    left: float = 0.0  # of our turn

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        """A callable that takes so long, if it is not interrupted."""

        def call() -> None:
            self.now += seconds
            self.left -= seconds
            while self.left <= 0:
                self.left += SLICE * self.chance.uniform(0.9, 1.1)
                self.now += SLICE * self.others

        return call


SLICE = 0.004  # seconds of a turn


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core()
    monkeypatch.setattr(sampling, "perf_counter", made.clock)
    return made


def test_a_callable_with_twice_the_work_is_half_as_fast(core: Core) -> None:
    one, two = interleaved([core.work(1e-4), core.work(2e-4)], FEW)
    assert one.speedup == 1
    assert two.speedup == pytest.approx(0.5)
    assert (one.median_ms, two.median_ms) == pytest.approx((0.1, 0.2))
    assert one.p50_ms == pytest.approx(0.1)
    assert two.throughput == pytest.approx(5000)


def test_by_a_real_clock_more_work_takes_longer() -> None:
    small, large = interleaved([lambda: sum(range(1000)), lambda: sum(range(100_000))], FEW)
    assert 0 < small.median_ms < large.median_ms
    assert large.speedup < 1
    assert small.spread_ms > 0


def test_samples_take_turns_there_and_back() -> None:
    order: list[str] = []
    effort = Effort(
        blocks=1, least=4, most=4, sample_ms=0, lead_ms=0, warm_seconds=0, burst_least=0
    )
    interleaved([lambda name=name: order.append(name) for name in "abc"], effort)  # type: ignore[misc]
    there_and_back = "aabbaaccaa" + "aaccaabbaa"  # each after a call that does not count
    assert "".join(order).endswith(there_and_back * 2)


def blocks_of(chance: random.Random, count: int, rounds: int = 9) -> list[Block]:
    """Two equal files, on a machine whose speed differs by 3 % between blocks, 5 % in them."""
    made = []
    for _ in range(count):
        levels = [chance.gauss(10, 0.3) for _ in range(2)]
        made.append(block_of([[chance.gauss(x, 0.5) for _ in range(rounds)] for x in levels]))
    return made


def block_of(rounds: list[list[float]], bursts: list[list[float]] | None = None) -> Block:
    """In each round the first took the same before and after every other."""
    beside = [rounds[0]] * len(rounds)
    return Block(rounds, beside, beside, bursts or [])


@pytest.mark.parametrize("count", [3, 5, 10])
def test_another_runs_figures_lie_within_the_spread_about_19_times_in_20(count: int) -> None:
    chance = random.Random(count)
    pairs = [[timings(blocks_of(chance, count))[1] for _ in range(2)] for _ in range(600)]
    time = sum(abs(a.median_ms - b.median_ms) <= a.spread_ms for a, b in pairs)
    ratio = sum(abs(a.speedup - b.speedup) <= a.speedup_spread for a, b in pairs)
    assert 0.90 <= time / 600 <= 0.98
    assert 0.90 <= ratio / 600 <= 0.98


def test_one_outlier_moves_no_median() -> None:
    plain = timings([block_of([[1.0] * 9, [2.0] * 9])] * 5)[1]
    hit = timings([block_of([[1.0] * 9, [2.0] * 8 + [500.0]])] * 5)[1]
    assert hit == plain == Timing(2.0, 0.0, 0.5, 0.0)


def test_one_block_out_of_step_moves_no_mean() -> None:
    calm, odd = block_of([[1.0] * 9, [2.0] * 9]), block_of([[1.0] * 9, [0.2] * 9])
    assert timings([calm] * 8 + [odd])[1] == Timing(2.0, 0.0, 0.5, 0.0)


@pytest.mark.parametrize("others", [1, 2])
def test_equals_are_equal_on_a_core_that_others_compute_on(
    core: Core, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_lengths", random.Random(0))
    core.others = others
    effort = Effort(blocks=7, warm_seconds=0.05, burst_least=0)
    for twin in interleaved([core.work(5e-5)] * 4, effort)[1:]:
        assert twin.speedup == pytest.approx(1, abs=0.1)
        assert twin.speedup_spread < 0.1


def test_bursts_tell_percentiles_and_throughput() -> None:
    calls = [float(n) for n in range(1, 101)]
    blocks = [block_of([[1.0]], [calls[:50]]), block_of([[1.0]], [calls[50:]])]
    timing = timings(blocks, batch=4)[0]
    assert timing.p50_ms == pytest.approx(50.5)
    assert timing.p95_ms == pytest.approx(95.05)
    assert timing.p99_ms == pytest.approx(99.01)
    assert timing.throughput == pytest.approx(4 * 100 / (sum(calls) / 1e3))
    assert timings([block_of([[1.0]])])[0].p95_ms is None


def test_a_departure_of_equals_widens_every_interval() -> None:
    wide = widened(Timing(10.0, 1.0, 2.0, 0.1), 0.2)
    assert (wide.spread_ms, wide.speedup_spread, wide.noisy) == (3.0, 0.5, True)
    assert departure(Timing(10.0, 1.0, 1.03, 0.01)) == pytest.approx(0.03)
    assert departure(Timing(10.0, 1.0, 1.0, 0.2)) == 0.2


def test_the_collector_is_off_meanwhile_and_on_again_after() -> None:
    seen: list[bool] = []
    interleaved(
        [lambda: seen.append(gc.isenabled())], Effort(blocks=2, least=3, most=3, warm_seconds=0)
    )
    assert not any(seen)
    assert gc.isenabled()


def test_noise_is_a_share() -> None:
    assert noise(QUICK) >= 0
