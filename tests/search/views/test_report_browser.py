"""The report in a real browser: no errors, no network, both colour schemes, a phone's width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.front import front
from search.views import report
from tests.search.views import studies

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 180_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "config.yaml").write_text("sampler: {name: nsga2}\nseed: 3\n")
    rows = studies.study(60)
    found = front.find(rows)
    return report.write(
        rows, folder, found, studies.validation(list(found.members), rows.trials[0])
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, offline; whatever the browser complains of fails the test."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: r.url.startswith("http") and complaints.append(r.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("#history .main-svg")
    yield page
    context.close()
    assert complaints == []


LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.mark.parametrize("opened", LOOKS, ids=str, indirect=True)
def test_it_draws_and_fits(opened: Any) -> None:
    assert opened.locator(".panels .main-svg .scatterlayer").count() >= 2
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.locator("#panel-0 .annotation").count() >= 4
    outside = opened.evaluate(
        """[...document.querySelectorAll('#panel-0 .annotation')].filter((label) => {
             const a = label.getBoundingClientRect();
             const b = document.querySelector('#panel-0').getBoundingClientRect();
             return a.left < b.left || a.right > b.right || a.top < b.top;
           }).length"""
    )
    assert outside == 0


def test_dark_and_light_differ_and_follow_the_reader(opened: Any) -> None:
    def colors() -> list[str]:
        body = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        text = opened.evaluate("document.querySelector('#panel-0 .xtick text').style.fill")
        return [body, text]

    light = colors()
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_function(  # the plots are drawn anew
        "was => document.querySelector('#panel-0 .xtick text').style.fill !== was", arg=light[1]
    )
    assert all(a != b for a, b in zip(light, colors(), strict=True))


def test_a_click_on_a_heading_sorts(opened: Any) -> None:
    def latencies() -> list[float]:
        cells = opened.locator("#members > .scroll tbody td:nth-child(4)").all()
        return [float(cell.get_attribute("data-sort")) for cell in cells]

    heading = opened.locator("#members > .scroll thead th", has_text="latency")
    heading.click()
    assert latencies() == sorted(latencies())
    heading.click()
    assert latencies() == sorted(latencies(), reverse=True)


def test_hovering_a_point_tells_what_it_is(opened: Any) -> None:
    box = opened.locator("#panel-0 .scatterlayer .trace").nth(-3).locator("path").first
    box.hover(force=True)
    opened.wait_for_selector("#panel-0 .hoverlayer text")
    told = opened.locator("#panel-0 .hoverlayer").text_content()
    assert told.startswith("trial ")
    assert "ms, error" in told
