"""A runtime that hangs, crashes, raises or hoards costs its file and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from mmap import mmap
from pathlib import Path

import pytest
import torch

from compressors.errors import UserError
from evaluation.measuring import child, quiet
from evaluation.measuring.files import Files
from evaluation.measuring.limits import Limits, MeasurementError, resident
from evaluation.measuring.sampling import Effort
from tests.evaluation.bad_runtime import BadOpener

HOARD = 64 << 20


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.of(
        "bad",
        BadOpener(),
        runtime="1",
        threads=1,
        batch=2,
        cache=str(tmp_path / "cache"),
        timeout_s=30,
        memory_mb=300,
    )


def written(folder: Path, word: str) -> Path:
    path = folder / f"{word}.txt"
    path.write_text(word)
    return path


def process(files: Files, folder: Path) -> int:
    return int(files.load(written(folder, "process"))(torch.zeros(1))[0])


def gone(number: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_files_are_answered_in_one_lasting_process_without_torch(
    files: Files, tmp_path: Path
) -> None:
    number, has_torch = files.load(written(tmp_path, "process"))(torch.zeros(1)).tolist()
    assert number != os.getpid()
    assert not has_torch
    assert process(files, tmp_path) == number
    answer = files.load(written(tmp_path, "2"))(torch.ones(3, 4, dtype=torch.bfloat16))
    assert torch.equal(answer, torch.full((3, 4), 3.0))


def test_arrays_travel_whole_whatever_their_size_and_layout(files: Files, tmp_path: Path) -> None:
    predict = files.load(written(tmp_path, "1"))
    for values in (torch.zeros(0, 3), torch.rand(300, 200), torch.rand(700, 800).T[::2]):
        assert torch.equal(predict(values), values + 1)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("crash", "crashed .SIGSEGV."),
        ("killed", "was killed .SIGKILL.*memory"),
        ("exit", "ended its process .exit code 3"),
        ("raise", "The runtime failed"),
        ("memory", r"The runtime took (?:[3-9]\d\d|\d{4,}) MB of memory"),
    ],
)
def test_what_goes_wrong_is_told_and_the_next_file_is_answered(
    files: Files, tmp_path: Path, word: str, says: str
) -> None:
    good, bad = files.load(written(tmp_path, "1")), files.load(written(tmp_path, word))
    with pytest.raises(MeasurementError, match=f"{says}.*{word}.txt"):
        bad(torch.zeros(2))
    assert good(torch.zeros(2)).tolist() == [1, 1]
    with pytest.raises(MeasurementError, match=f"{says}.*{word}.txt"):
        files.compare(written(tmp_path, "1"), [written(tmp_path, word)])
    assert good(torch.zeros(2)).tolist() == [1, 1]


def test_a_hang_ends_at_the_limit_with_all_that_it_started(tmp_path: Path) -> None:
    def within(seconds: float) -> Files:
        opener, given = BadOpener("hangs"), {"runtime": "1", "threads": 1, "batch": 1}
        return Files.of("bad", opener, cache=None, timeout_s=seconds, **given)  # type: ignore[arg-type]

    before = process(within(60), tmp_path)
    predict = within(3).load(written(tmp_path, "hang"))
    start = time.monotonic()
    with pytest.raises(MeasurementError, match=r"no answer within 3 s.*target\.timeout_s"):
        predict(torch.zeros(1))
    with pytest.raises(MeasurementError, match="hang at open"):
        within(1).load(written(tmp_path, "hang at open"))
    assert time.monotonic() - start < 60  # and not as long as they would hang
    assert gone(before)
    assert gone(int((tmp_path / "hang.started").read_text()))
    assert process(within(60), tmp_path) != before


def test_the_users_errors_stay_the_users(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file") as caught:
        files.load(tmp_path / "missing")
    assert not isinstance(caught.value, MeasurementError)
    for wrong in ({"timeout_s": 0}, {"memory_mb": -1}, {"batch": [1, 8]}, {"threads": [1, 2]}):
        given = {"threads": 1, "batch": 1, **wrong}
        with pytest.raises(UserError, match=next(iter(wrong))):
            Files.of("bad", BadOpener(), runtime="1", cache=None, **given)  # type: ignore[arg-type]


PARENT = """
import sys
from pathlib import Path
from evaluation.measuring.limits import Limits
from evaluation.measuring.opened import Opened
from tests.evaluation.bad_runtime import BadOpener
folder = Path(sys.argv[1])
opened = [Opened(BadOpener(), folder / name, Limits()) for name in ("process.txt", "hang.txt")]
print(int(opened[0].run()[0]), flush=True)
opened[1].run()
"""


def test_a_killed_parent_leaves_no_orphan_even_amid_a_request(tmp_path: Path) -> None:
    for word in ("process", "hang"):
        written(tmp_path, word)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    time.sleep(0.2)
    assert not gone(number, 0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(number)


def test_a_process_that_died_while_idle_is_started_anew_and_its_files_opened_again(
    files: Files, tmp_path: Path
) -> None:
    good, number = files.load(written(tmp_path, "1")), process(files, tmp_path)
    os.kill(number, signal.SIGKILL)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    assert good(torch.zeros(1)).tolist() == [1]
    assert process(files, tmp_path) != number


def test_only_a_few_idle_processes_are_kept(tmp_path: Path) -> None:
    made = [
        Files.of("bad", BadOpener(name), runtime="1", threads=1, batch=1, cache=None)
        for name in "abc"
    ]
    first = made[0].load(written(tmp_path, "1"))
    numbers = [process(files, tmp_path) for files in made]
    assert len(set(numbers)) == 3
    assert gone(numbers[0])
    assert not gone(numbers[2], 0.1)
    assert first(torch.zeros(1)).tolist() == [1]


def test_a_comparison_tells_what_a_server_would_see(files: Files, tmp_path: Path) -> None:
    small, large = files.compare(
        written(tmp_path, "1"), [written(tmp_path, "2"), written(tmp_path, "20 MB")]
    )
    assert small.median_ms < large.median_ms
    for timing in (small, large):
        assert timing.p50_ms is not None
        assert timing.p95_ms is not None
        assert timing.p99_ms is not None
        assert 0 < timing.p50_ms <= timing.p95_ms <= timing.p99_ms
        assert timing.throughput is not None
        assert timing.throughput > 0
    assert small.peak_memory_bytes is not None
    assert large.peak_memory_bytes is not None
    assert small.peak_memory_bytes < 4 << 20
    assert 39 << 20 < large.peak_memory_bytes < 60 << 20  # the values, and the answer


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_timed_on_one_core(tmp_path: Path, threads: int) -> None:
    opener = BadOpener("cores", threads)
    files = Files.of("bad", opener, runtime="1", threads=threads, batch=1, cache=None)
    path = written(tmp_path, "cores")
    files._block([path], Effort(least=2, most=2, warm_seconds=0, burst_least=0))
    seen = int(path.with_suffix(".seen").read_text())
    assert seen == 1 if threads == 1 else seen > 1


def test_equals_that_time_apart_make_a_run_noisy_and_the_intervals_hold_that(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = child.Child.ask

    def asking(self: child.Child, name: str, *args: object, **rest: object) -> object:
        asked.append(name)
        return ask(self, name, *args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(child.Child, "ask", asking)
    moody = written(tmp_path, "moody")
    effort = Effort(runs=2, blocks=2, least=3, most=3, warm_seconds=0, burst_least=0)
    reference, twin = files._timed(moody, [moody], effort)
    assert asked.count("time") == effort.runs * effort.blocks
    assert reference.noisy
    assert twin.noisy
    assert abs(reference.median_ms - twin.median_ms) <= reference.spread_ms


def test_who_asks_has_the_machine_alone_while_the_other_process_times(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    ask = child.Child.ask

    def asked(self: child.Child, name: str, *args: object, **rest: object) -> object:
        if name == "time":
            seen.append(quiet._mine.alone == 1)
        return ask(self, name, *args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(child.Child, "ask", asked)
    files.compare(written(tmp_path, "1"), [])
    assert seen
    assert all(seen)


def test_an_opener_of_the_script_that_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BadOpener, "__module__", "__main__")
    with pytest.raises(UserError, match="module of its own"):
        child.child_of(BadOpener(), Limits())


def test_a_process_tells_what_it_holds() -> None:
    held = resident(os.getpid())
    assert held is not None
    with mmap(-1, HOARD) as hoard:  # memory that was freed before is not used again
        hoard.write(b"1" * HOARD)
        now = resident(os.getpid())
    assert now is not None
    assert now - held > 0.9 * HOARD
    assert resident(2**22 + 1) is None
