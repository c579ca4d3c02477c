"""The report in a real browser, headless Chromium: no network, no console error, nothing wider than a phone, tables
that sort, players that play. Skipped where Chromium, its driver or selenium are absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver (Debian: chromium-driver)"
)
PHONE_PX, DESKTOP_PX = 390, 1280
N_FRAMES = 24  # that a toy build's golden vectors have, a pixel each or more


@pytest.fixture(scope="module")
def report_html(rpi4: Path) -> Path:
    return rpi4 / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


def opened(browser: Any, page: Path, width_px: int) -> Any:
    metrics = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px == PHONE_PX}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    return browser


@pytest.mark.parametrize("width_px", [PHONE_PX, DESKTOP_PX])
def test_it_opens_alone_and_nothing_is_wider_than_the_screen(browser: Any, report_html: Path, width_px: int) -> None:
    page = opened(browser, report_html, width_px)
    assert page.title.startswith("edge-denoise report")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width_px
    assert page.get_log("browser") == []
    asked = [line["message"] for line in page.get_log("performance") if 'Network.requestWillBeSent"' in line["message"]]
    assert asked, "the page itself is asked for"
    assert not [line for line in asked if "http://" in line.split('"request"')[1] and '"url":"http' in line]


def test_every_picture_is_drawn(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    sizes = page.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert len(sizes) == 4
    assert all(complete and width >= N_FRAMES and height == 257 for complete, width, height in sizes)
    drawn = page.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
    )
    assert len(drawn) == 5, "two budgets, accuracy, a histogram, frame times"
    assert min(drawn) > 100


def test_a_heading_sorts_its_table_both_ways(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    column = (
        "return [...document.querySelectorAll('#budget table')[0].tBodies[0].rows].map(r => r.cells[5].textContent)"
    )
    button = page.find_elements("css selector", "#budget table th button")[5]
    for sign, sort in ((-1, "descending"), (1, "ascending")):
        page.execute_script("arguments[0].click()", button)
        values = [int(text.replace(",", "")) for text in page.execute_script(column)]
        assert values == sorted(values, key=lambda v: sign * v)
        assert button.find_element("xpath", "..").get_attribute("aria-sort") == sort


def test_the_players_play(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    play = """const done = arguments[0], players = [...document.querySelectorAll('audio')];
      Promise.all(players.map(p => new Promise((good, bad) => {
        p.onloadedmetadata = () => good(p.duration); p.onerror = () => bad(p.error.message);
        p.preload = 'auto'; p.load();
      }))).then(done, error => done([String(error)]));"""
    page.set_script_timeout(60)
    assert page.execute_async_script(play) == [pytest.approx(N_FRAMES * 0.016, abs=0.02)] * 4
