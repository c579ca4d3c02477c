"""The report in a real browser, headless Chromium: no network, no console error, nothing wider than a phone, one player
that switches without a gap, keys, cursor, tables that sort, no barrier. Skipped where Chromium, its driver or selenium
are absent."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import browser as chromium

from quant.report import remake

PHONE_PX, DESKTOP_PX = 390, 1280
FADE_S = 0.005
MOST_TASK_S = 1.0  # of the browser's main thread until the page stands: what a person waits for on an idle machine


@pytest.fixture(scope="module")
def report_html(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder whose name a shell has to quote, with two recordings to hear and everything measured."""
    mine = Path(shutil.copytree(folder, tmp_path_factory.mktemp("browser") / "my rpi4"))
    rows = [
        {"system": s, "stimulus": f"tone {hz} Hz", "quantity": "difference", "unit": "dB", "value": -20.0 - hz / 1e3,
         "bound": -6, "is_upper": True, "ok": True}
        for s in ("native int8", "onnx int8", "tflite int8") for hz in (100, 440, 1000)
    ]  # fmt: skip
    (mine.parent / "hard.json").write_text(json.dumps({"rows": rows}))
    clip = Path(__file__).parents[4] / "docs" / "img" / "hero-noisy.flac"
    taken = remake.Taken(robustness=mine.parent / "hard.json", clips=[f"{clip}:{clip}"], against=folder)
    remake.remake(mine, taken)
    return mine / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--autoplay-policy=no-user-gesture-required", performance="ALL") as driver:
        driver.set_page_load_timeout(120)
        driver.set_script_timeout(60)
        yield driver


def opened(browser: Any, page: Path, width_px: int, **media: str) -> Any:
    metrics = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px == PHONE_PX}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media.get("media", ""), "features": features})
    browser.get(page.as_uri())
    return browser


@pytest.mark.parametrize("width_px", [PHONE_PX, DESKTOP_PX])
def test_it_opens_alone_and_nothing_is_wider_than_the_screen(browser: Any, report_html: Path, width_px: int) -> None:
    page = opened(browser, report_html, width_px)
    assert page.title.startswith("edge-denoise report")
    for opens in ("false", "true"):
        page.execute_script(f"document.querySelectorAll('details').forEach(d => {{ d.open = {opens}; }})")
        assert page.execute_script("return document.documentElement.scrollWidth") <= width_px
    wider = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, svg, .skip') &&
      e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
    assert page.execute_script(wider) == []
    assert page.get_log("browser") == []
    asked = [line["message"] for line in page.get_log("performance") if 'Network.requestWillBeSent"' in line["message"]]
    assert asked, "the page itself is asked for"
    assert not [line for line in asked if "http://" in line.split('"request"')[1] and '"url":"http' in line]


def test_it_stands_within_a_second(browser: Any, report_html: Path) -> None:
    """Of work: a busy machine makes the clock say more, not this."""
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    page = opened(browser, report_html, DESKTOP_PX)
    spent = {m["name"]: m["value"] for m in page.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    page.execute_cdp_cmd("Performance.disable", {})
    assert 0 < spent["TaskDuration"] < MOST_TASK_S, spent


def test_every_picture_is_drawn(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    sizes = page.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert len(sizes) == 4 + 5
    assert all(complete and width > 60 and height == 257 for complete, width, height in sizes), sizes
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    drawn = page.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
    )
    assert len(drawn) == 3, "time against loss, memory, histograms"
    assert min(drawn) > 100


def test_a_heading_sorts_its_table_both_ways(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    table = '[aria-label="Budget by layer"] table'
    column = f"return [...document.querySelector('{table}').tBodies[0].rows].map(r => r.cells[5].textContent)"
    button = page.find_elements("css selector", f"{table} th button")[5]
    for sign, sort in ((-1, "descending"), (1, "ascending")):
        page.execute_script("arguments[0].click()", button)
        values = [int(text.replace(",", "")) for text in page.execute_script(column)]
        assert values == sorted(values, key=lambda v: sign * v)
        assert button.find_element("xpath", "..").get_attribute("aria-sort") == sort


# --- the player ---------------------------------------------------------------------------------------------------

SWITCHED = """
const done = arguments[0], context = new OfflineAudioContext(1, 16000, 16000);
const level = value => { const b = context.createBuffer(1, 16000, 16000); b.getChannelData(0).fill(value); return b; };
const player = new Player(context, new Map([["a", level(0.25)], ["b", level(0.75)]]));
player.select("a"); player.start(0);
context.suspend(0.5).then(() => { player.select("b"); context.resume(); });
context.startRendering().then(sound => done([...sound.getChannelData(0)]), error => done(String(error)));
"""


def test_switching_fades_and_leaves_no_gap(browser: Any, report_html: Path) -> None:
    """Rendered sample by sample: between the two signals all the time, and over with the fade."""
    heard = opened(browser, report_html, DESKTOP_PX).execute_async_script(SWITCHED)
    assert isinstance(heard, list), heard
    faded_in, fade = round(FADE_S * 16000) + 1, round(0.5 * 16000)
    assert all(abs(value - 0.25) < 1e-4 for value in heard[faded_in:fade])
    between = heard[fade : fade + faded_in + 128]
    assert all(0.25 - 1e-4 < value < 0.75 + 1e-4 for value in between)
    assert all(b >= a - 1e-6 for a, b in pairwise(between)), "rises evenly"
    assert max(b - a for a, b in pairwise(between)) < 0.02, "without a click"
    assert all(abs(value - 0.75) < 1e-4 for value in heard[fade + faded_in + 128 :])


STATE = """return {role: document.querySelector('input[name=signal]:checked').value,
  shown: [...document.querySelectorAll('.spectrogram')].filter(f => !f.hidden).map(f => f.dataset.role),
  at: parseFloat(document.getElementById('position').value),
  cursor: document.querySelector('.spectrogram:not([hidden]) .cursor').getBoundingClientRect().left,
  play: document.getElementById('play').textContent}"""


def until(page: Any, holds: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 30, poll_frequency=0.05).until(lambda driver: driver.execute_script(f"return {holds}"))


def test_keys_switch_while_it_plays_and_the_cursor_moves(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    before = page.execute_script(STATE)
    assert (before["role"], before["shown"], before["at"], before["play"]) == ("int8", ["int8"], 0, "Play")
    page.find_element("id", "play").click()
    until(page, "document.getElementById('position').value > 0.05")
    moved = page.execute_script(STATE)
    assert moved["play"] == "Pause"
    assert moved["cursor"] > before["cursor"]
    body = page.find_element("css selector", "body")
    for key, role in (("1", "noisy"), ("2", "fp32"), ("4", "clean"), ("5", "difference"), ("3", "int8")):
        body.send_keys(key)
        found = page.execute_script(STATE)
        assert (found["role"], found["shown"], found["play"]) == (role, [role], "Pause"), "it plays on"
    page.find_element("id", "play").click()
    stopped = page.execute_script(STATE)
    assert stopped["play"] == "Play"
    assert page.execute_script(STATE)["at"] == stopped["at"]


def test_a_click_and_the_arrow_keys_set_the_one_position(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    page.find_element("css selector", ".spectrogram:not([hidden]) .plot").click()
    assert page.execute_script(STATE)["at"] == pytest.approx(1.0, abs=0.02), "the middle of two seconds"
    slider = page.find_element("id", "position")
    before = page.execute_script(STATE)
    slider.send_keys("\ue014\ue014\ue014")  # arrow right
    after = page.execute_script(STATE)
    assert after["at"] == pytest.approx(before["at"] + 0.03, abs=0.011)
    assert after["cursor"] > before["cursor"]


def test_the_users_recording_comes_first_and_all_signals_can_be_seen_at_once(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    page.find_element("id", "stacked").click()
    assert page.execute_script(STATE)["shown"] == ["noisy", "fp32", "int8", "clean", "difference"]
    page.find_element("id", "stacked").click()
    page.find_element("css selector", "body").send_keys("4")
    assert page.execute_script(STATE)["shown"] == ["clean"]
    page.execute_script(
        "const s = document.getElementById('clip'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    assert page.execute_script(STATE)["shown"] == ["int8"], "the golden clip has no clean speech"
    page.find_element("css selector", "body").send_keys("4")
    assert page.execute_script(STATE)["shown"] == ["int8"]


# --- for everybody ------------------------------------------------------------------------------------------------


def test_next_steps_name_the_folder_where_the_page_lies(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    typed = page.execute_script("return [...document.querySelectorAll('.folder')].map(f => f.textContent)")
    assert set(typed) == {f"'{report_html.parent}'"}
    assert "DIR" not in page.find_element("css selector", "body").text


def axe() -> str:
    """The source of axe-core, which a package for tests carries."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core: axe-playwright-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize(("width_px", "scheme"), [(DESKTOP_PX, "light"), (DESKTOP_PX, "dark"), (PHONE_PX, "light")])
def test_axe_finds_no_barrier(browser: Any, report_html: Path, width_px: int, scheme: str) -> None:
    page = opened(browser, report_html, width_px, scheme=scheme)
    opens = str((width_px, scheme) == (DESKTOP_PX, "light")).lower()  # folded tables are long: once is enough
    page.execute_script(f"document.querySelectorAll('details').forEach(d => {{ d.open = {opens}; }})")
    page.execute_script(axe())
    found = page.execute_async_script("axe.run().then(arguments[0], error => arguments[0]({error: String(error)}))")
    assert "error" not in found, found
    told = [(v["id"], [n["html"][:160] for n in v["nodes"]][:3]) for v in found["violations"]]
    assert told == []
    assert len(found["passes"]) > 20, "it looked"


def test_whatever_can_be_used_can_be_reached_by_keyboard_and_has_a_name(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX)
    used = page.find_elements("css selector", "main button, main input, main select, main summary, main a")
    nameless = [e.get_attribute("outerHTML")[:90] for e in used if e.is_displayed() and not e.accessible_name.strip()]
    assert nameless == []
    assert not page.find_elements("css selector", "[tabindex]:not([tabindex='0'])")


def test_paper_shows_every_spectrogram_and_no_control(browser: Any, report_html: Path) -> None:
    page = opened(browser, report_html, DESKTOP_PX, media="print")
    shown = "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent).length"
    assert page.execute_script(shown, ".spectrogram") == 9
    assert page.execute_script(shown, ".controls, nav, .save") == 0
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 10_000
