"""The working folder that these tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from quant_desk import lay_out, nothing_is_pulled


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a checkpoint, speech, noise and out/; nothing is pulled for what is not there."""
    monkeypatch.chdir(tmp_path)
    nothing_is_pulled(monkeypatch)
    lay_out()
    return tmp_path
