"""The working folder that these tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtime_desk import lay_out


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a sound and out/, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lay_out()
    return tmp_path
