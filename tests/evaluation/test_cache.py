"""What is kept between runs is found again, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluation.cache import cache_dir, locked, replacing
from evaluation.measuring.remembered import Latency, LatencyCache, described, processor

CONDITIONS: dict[str, str | int] = {"processor": "x", "threads": 1}


def test_the_folder_is_the_one_given_else_the_environments_else_at_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path))
    assert cache_dir("/elsewhere") == Path("/elsewhere")
    assert cache_dir() == tmp_path
    monkeypatch.delenv("PAREDOWN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "paredown"


def write_half(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError


def test_a_file_is_replaced_whole_or_left(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="PAREDOWN_CACHE"), locked(tmp_path / "file" / "x"):
        pass


def test_a_latency_is_measured_once_and_read_by_another(tmp_path: Path) -> None:
    first, second = (LatencyCache(tmp_path, CONDITIONS) for _ in range(2))
    assert first.remembered("a", lambda: Latency(1.5, 0.1)) == Latency(1.5, 0.1)
    assert second.remembered("a", lambda: Latency(9.9, 0.1)) == Latency(1.5, 0.1)
    assert second.get("b") is None


NOISY = Latency(1.5, 0.6, noisy=True)


def test_what_was_measured_on_a_noisy_machine_is_measured_again_when_it_is_quieter(
    tmp_path: Path,
) -> None:
    first, second, third, fourth = (LatencyCache(tmp_path, CONDITIONS) for _ in range(4))
    assert first.remembered("a", lambda: NOISY) == NOISY
    assert first.remembered("a", lambda: Latency(9, 0), lambda: True) == NOISY, "once a process"
    assert second.remembered("a", lambda: Latency(9, 0), lambda: False) == NOISY
    assert third.settled("a") is None
    assert third.remembered("a", lambda: Latency(1.2, 0.1), lambda: True) == Latency(1.2, 0.1)
    assert fourth.settled("a") == Latency(1.2, 0.1)
    assert fourth.remembered("a", lambda: Latency(9, 0), lambda: True) == Latency(1.2, 0.1)


@pytest.mark.parametrize(("spread", "better"), [(0.5, True), (0.7, False)])
def test_of_two_noisy_ones_the_less_noisy_counts(
    tmp_path: Path, spread: float, better: bool
) -> None:
    LatencyCache(tmp_path, CONDITIONS).put("a", NOISY)
    other = Latency(1.5, spread, noisy=True)
    expected = other if better else NOISY
    second = LatencyCache(tmp_path, CONDITIONS)
    assert second.remembered("a", lambda: other, lambda: True) == expected
    assert LatencyCache(tmp_path, CONDITIONS).get("a") == expected


def test_other_conditions_are_another_file(tmp_path: Path) -> None:
    LatencyCache(tmp_path, CONDITIONS).put("a", Latency(1, 0))
    assert LatencyCache(tmp_path, {**CONDITIONS, "threads": 2}).get("a") is None


@pytest.mark.parametrize("cut", ['{"signature": "b", "med', '{"signature": "b"}', "[]", "\x00"])
def test_a_spoilt_line_costs_only_itself(tmp_path: Path, cut: str) -> None:
    cache = LatencyCache(tmp_path, CONDITIONS)
    cache.put("a", Latency(1, 0))
    with open(cache.path, "a") as file:
        file.write(cut)
    other = LatencyCache(tmp_path, CONDITIONS)
    assert other.get("b") is None
    other.put("b", Latency(2, 0))
    again = LatencyCache(tmp_path, CONDITIONS)
    assert again.get("a") == Latency(1, 0)
    assert again.get("b") == Latency(2, 0)


def test_the_processor_has_a_name() -> None:
    assert processor() == processor() != ""


def test_processors_are_told_apart_by_their_names_or_by_the_parts_of_their_cores() -> None:
    graviton2, graviton3 = (
        f"processor : {core}\nFeatures : fp asimd{more}\nCPU implementer : 0x41\n"
        f"CPU variant : 0x{variant}\nCPU part : {part}\nCPU revision : 1\n"
        for core, more, variant, part in ((0, "", 3, "0xd0c"), (0, " sve", 1, "0xd40"))
    )
    big_and_little = graviton2 + graviton3
    x86 = "model name : Some Processor @ 2.50GHz\nflags : avx2 avx512_vnni\n"
    other = x86.replace(" avx512_vnni", "")
    told = [described(text) for text in (graviton2, graviton3, big_and_little, x86, other)]
    assert len(set(told)) == 5
    assert "0xd0c" in told[0]
    assert told[3].startswith("Some Processor @ 2.50GHz ")
    assert described(x86 + x86) == described(x86)
