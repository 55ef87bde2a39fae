from __future__ import annotations

from search.front.next_steps import apply_command, search_command
from tests.search.views import studies

ROWS = studies.study(1)


def test_commands_repeat_the_words_that_began_the_study() -> None:
    config = {"words": ["sampler=random", "objectives=[quality,macs]"]}
    words = "sampler=random 'objectives=[quality,macs]'"
    assert search_command(ROWS, config) == f"paredown search {words}"
    assert apply_command("p.yaml", ROWS, config) == f"paredown apply p.yaml {words}"


def test_a_study_begun_without_words_is_given_again_without_any() -> None:
    assert search_command(ROWS, {"words": []}) == "paredown search"


def test_without_a_configuration_the_rows_tell_what_they_know() -> None:
    words = f"task={ROWS.task} target={ROWS.target} study.name={ROWS.name}"
    assert search_command(ROWS, {}) == f"paredown search {words}"
    assert apply_command("p.yaml", ROWS, {}) == f"paredown apply p.yaml {words}"
