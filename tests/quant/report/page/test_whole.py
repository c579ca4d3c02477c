"""The page is fit to be read: it needs nothing else, has contrast, and says everything aloud."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_parts import with_parts

from quant.report.page import whole
from quant.report.schema import Report


class Reader(HTMLParser):
    """What a screen reader and a checker look for."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title, self._in_title = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._in_title = tag == "title"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[a] or "" for a in ("src", "href", "xlink:href", "srcset", "action") if a in found]

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title, self._in_title = data, False


@pytest.fixture(scope="module")
def read(folder: Path) -> Reader:
    reader = Reader()
    reader.feed((folder / "report.html").read_text())
    return reader


def test_the_page_needs_nothing_else(folder: Path, read: Reader) -> None:
    html = (folder / "report.html").read_text()
    assert html.lstrip().startswith("<!doctype html>")
    assert len(html) < whole.MOST_BYTES == 3_000_000
    assert {link.split(":")[0] for link in read.links if not link.startswith("#")} == {"data"}
    assert not re.search(r"@import|url\((?!#|[\"']?data:)|fetch\(|XMLHttpRequest", html)


def test_headings_are_in_order_ids_are_unique_and_links_lead_somewhere(read: Reader) -> None:
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(read.headings, read.headings[1:], strict=False))
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert "edge-denoise report: default.trained on Raspberry Pi 4 Model B" in read.title


def test_whatever_is_seen_can_be_read_aloud(read: Reader) -> None:
    for tag, attrs in read.tags:
        if tag == "img":
            assert len(attrs["alt"] or "") > 10
        if attrs.get("role") in ("img", "region") or attrs.get("type") == "range":
            assert attrs["aria-label"]
    assert [a["lang"] for t, a in read.tags if t == "html"] == ["en"]


def contrast(a: str, b: str) -> float:
    """WCAG 2: relative luminances, 1 to 21."""

    def luminance(colour: str) -> float:
        whole = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_in_light_dark_and_print(folder: Path) -> None:
    themes = re.findall(r":root \{([^}]*)\}", (folder / "report.html").read_text())
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", theme))
        for ink in ("ink", "muted", "a", "good", "caution", "bad", "unknown"):
            for ground in ("bg", "card"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground, colours)
        for drawn in ("b", "c"):
            assert contrast(colours[drawn], colours["card"]) >= 3, drawn


def test_what_the_user_names_is_text_and_no_markup(built: Report) -> None:
    found = with_parts(built, clips=[], checkpoint={"name": "<script>alert(1)</script>", "sha256": ""})
    html = whole.render(found, [])
    assert b"<script>alert" not in html
    assert html == whole.render(found, []), "the same report, the same bytes"
