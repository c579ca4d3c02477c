"""One artifact of the trained default for all tests of the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from quant.report import schema
from quant.report.schema import Report


@pytest.fixture(scope="session")
def folder(rpi4: Path) -> Path:
    """The artifact; not to be changed."""
    return rpi4


@pytest.fixture
def mine(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "artifact"))


@pytest.fixture(scope="session")
def built(folder: Path) -> Report:
    """Its report."""
    return schema.read(folder / "report.json")
