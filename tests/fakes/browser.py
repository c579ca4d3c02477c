"""Headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NOT_OURS = "LD_AUDIT"  # of `processors.py`: the browser takes SIGTRAP itself


@contextmanager
def browser(*arguments: str, **logs: str) -> Iterator[Any]:
    """Selenium's driver; skips without it, Chromium and its driver. `logs`: what is kept, at which level."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **logs})
    environment = {name: value for name, value in os.environ.items() if name != NOT_OURS}
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER, env=environment))
    try:
        yield driver
    finally:
        driver.quit()
