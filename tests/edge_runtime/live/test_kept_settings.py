"""What a service was set to outlives its death; a file that is damaged is none."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.kept_settings import FILE, Keeper, recall, service_file

ROWS = [
    Settings(),
    Settings(strength=0.25, limit_db=12.0, bypass=True, gate_dbfs=-50.0),
    Settings(limit_db=inf, gate_dbfs=-inf, bypass=True),
]
DAMAGED = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"strength": 1.0}'),
    b'{"strength": 2.0, "limit_db": null, "bypass": false, "gate_dbfs": null}',
    b'{"strength": 1.0, "limit_db": null, "bypass": 3, "gate_dbfs": null}',
]


@pytest.mark.parametrize("settings", ROWS)
def test_what_is_kept_is_recalled(tmp_path: Path, settings: Settings) -> None:
    Keeper(tmp_path / FILE).keep(settings)
    assert recall(tmp_path / FILE) == settings
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_only_changes_are_written(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / FILE)
    keeper.keep(Settings(strength=0.5))
    (tmp_path / FILE).unlink()
    keeper.keep(Settings(strength=0.5))
    assert recall(tmp_path / FILE) is None
    keeper.keep(Settings(strength=0.6))
    assert recall(tmp_path / FILE) == Settings(strength=0.6)


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    assert recall(tmp_path / FILE) is None


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    Keeper(tmp_path / "absent" / FILE).keep(Settings(strength=0.5))
    assert recall(tmp_path / "absent" / FILE) is None


def test_only_a_service_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert service_file() is None
    assert recall(None) is None
    Keeper(None).keep(Settings())
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/edge-denoise:/run/other")
    assert service_file() == Path("/run/edge-denoise") / FILE
