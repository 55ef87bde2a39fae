from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from compressors.calibration.cache import ContentCache, size
from compressors.calibration.digest import of_tensor, of_text

ROW = 4 * 100


def rows(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.full((100,), value)}


def test_what_was_made_is_found_again() -> None:
    cache = ContentCache()
    assert torch.equal(cache.remembered("a", lambda: rows(1.0))["x"], rows(1.0)["x"])
    assert torch.equal(cache.remembered("a", lambda: rows(2.0))["x"], rows(1.0)["x"])
    assert (cache.made, cache.found) == (1, 1)


def test_the_least_recently_used_leave_memory_first() -> None:
    cache = ContentCache(memory_bytes=2 * ROW)
    for key in "ab":
        cache.put(key, rows(1.0))
    assert cache.get("a") is not None
    cache.put("c", rows(3.0))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None


def test_what_is_larger_than_memory_is_kept_on_disk(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, memory_bytes=ROW // 2)
    cache.put("a" * 8, rows(1.0))
    found = cache.get("a" * 8)
    assert found is not None
    assert torch.equal(found["x"], rows(1.0)["x"])


def test_what_is_larger_than_memory_pushes_nothing_else_out() -> None:
    cache = ContentCache(memory_bytes=2 * ROW)
    cache.put("a", rows(1.0))
    cache.put("large", {"x": torch.zeros(300)})
    assert cache.get("large") is None
    assert cache.get("a") is not None


def test_threads_leave_no_more_counted_than_is_held() -> None:
    cache = ContentCache(memory_bytes=10 * ROW)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda index: cache.put(str(index % 23), rows(1.0)), range(20_000)))
    finally:
        sys.setswitchinterval(before)
    assert cache._bytes == ROW * len(cache._held) == 10 * ROW


def test_what_shares_memory_is_written_apart(tmp_path: Path) -> None:
    vector = torch.arange(5.0)
    ContentCache(tmp_path).put("key", {"row": vector[None], "column": vector[:, None]})
    found = ContentCache(tmp_path).get("key")
    assert found is not None
    assert torch.equal(found["row"].T, found["column"])
    assert torch.equal(found["row"][0], vector)


def test_a_file_whose_date_may_not_be_set_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ContentCache(tmp_path).put("key", rows(1.0))

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    assert ContentCache(tmp_path).get("key") is not None


def test_processes_share_a_folder(tmp_path: Path) -> None:
    half = {"x": torch.randn(3, 4, dtype=torch.bfloat16), "none": torch.empty(0)}
    ContentCache(tmp_path).put("key", half)
    found = ContentCache(tmp_path).get("key")
    assert found is not None
    assert found["x"].dtype == torch.bfloat16
    assert torch.equal(found["x"], half["x"])
    assert found["none"].shape == (0,)


def test_a_spoilt_file_is_as_good_as_none(tmp_path: Path) -> None:
    ContentCache(tmp_path).put("key", rows(1.0))
    path = next(tmp_path.glob("*/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-5])
    cache = ContentCache(tmp_path)
    assert cache.get("key") is None
    assert torch.equal(cache.remembered("key", lambda: rows(2.0))["x"], rows(2.0)["x"])


def test_the_folder_stays_within_its_bound(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, disk_bytes=5 * 1000)
    for index in range(40):
        cache.put(of_text("row", index), {"x": torch.zeros(200)})
    cache.sweep()
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 5 * 1000
    assert ContentCache(tmp_path).get(of_text("row", 39)) is not None


def test_many_short_processes_stay_within_the_bound(tmp_path: Path) -> None:
    for run in range(20):
        cache = ContentCache(tmp_path, disk_bytes=100_000)
        for index in range(4):
            cache.put(of_text(run, index), {"x": torch.zeros(2000)})
    held = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert held <= 100_000 * (1 + 1 / 16) + 8200


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ContentCache(tmp_path / "file", memory_bytes=0)
    assert torch.equal(cache.remembered("key", lambda: rows(1.0))["x"], rows(1.0)["x"])
    assert cache.get("key") is None


def write_for_ever(folder: str) -> None:
    cache = ContentCache(Path(folder), memory_bytes=0)
    for index in range(10**6):
        cache.put(of_text(index % 50), {"x": torch.full((20_000,), float(index % 50))})


def test_a_kill_at_any_write_leaves_whole_values(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_for_ever, args=(str(tmp_path),)) for _ in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("*/*.safetensors"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    cache = ContentCache(tmp_path)
    known = [(index, cache.get(of_text(index))) for index in range(50)]
    values = [(index, found["x"]) for index, found in known if found is not None]
    assert len(values) >= 20
    assert all((x == index).all() and x.shape == (20_000,) for index, x in values)


def test_digests_tell_types_shapes_and_values_apart() -> None:
    x = torch.arange(6.0)
    others = [x.double(), x.view(2, 3), x + 1e-6, x.to(torch.bfloat16)]
    digests = {of_tensor(tensor) for tensor in (x, *others)}
    assert len(digests) == 5
    assert of_tensor(x.view(2, 3).T.contiguous().T) == of_tensor(x.view(2, 3))
    assert size({"a": x, "b": x.double()}) == 24 + 48
