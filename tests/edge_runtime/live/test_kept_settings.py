"""What a service was set to outlives its death, not its end, and not options that changed; a damaged file is none."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.kept_settings import FILE, Keeper, service_file

GIVEN = Settings(strength=0.9)
ROWS = [
    Settings(),
    Settings(strength=0.25, limit_db=12.0, bypass=True, gate_dbfs=-50.0),
    Settings(limit_db=inf, gate_dbfs=-inf, bypass=True),
]
GOOD = b'{"strength": 1.0, "limit_db": null, "bypass": false, "gate_dbfs": null}'
AS_GIVEN = b'{"strength": 0.9, "limit_db": null, "bypass": false, "gate_dbfs": null}'
DAMAGED = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", GOOD, b'{"given": %s}' % AS_GIVEN),
    b'{"given": %s, "settings": %s}' % (AS_GIVEN, GOOD.replace(b"1.0", b"2.0")),
    b'{"given": %s, "settings": %s}' % (AS_GIVEN, GOOD.replace(b"false", b"3")),
]


@pytest.mark.parametrize("settings", ROWS)
def test_what_is_kept_is_recalled_under_the_same_options(tmp_path: Path, settings: Settings) -> None:
    Keeper(tmp_path / FILE, GIVEN).keep(settings)
    assert Keeper(tmp_path / FILE, GIVEN).first == settings
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("changed", [Settings(strength=0.5), Settings(0.9, 12.0), GIVEN._replace(bypass=True)])
def test_options_that_changed_hold(tmp_path: Path, changed: Settings) -> None:
    Keeper(tmp_path / FILE, GIVEN).keep(Settings(strength=0.25))
    assert Keeper(tmp_path / FILE, changed).first == changed


def test_nothing_is_kept_where_nobody_changed_anything(tmp_path: Path) -> None:
    Keeper(tmp_path / FILE, GIVEN).keep(GIVEN)
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_was_asked_for_forgets(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / FILE, GIVEN)
    keeper.keep(Settings(strength=0.25))
    keeper.forget()
    assert Keeper(tmp_path / FILE, GIVEN).first == GIVEN
    keeper.forget()


def test_what_was_recalled_is_kept_on(tmp_path: Path) -> None:
    """Killed twice, changed once; and back to the options is a change, too."""
    Keeper(tmp_path / FILE, GIVEN).keep(Settings(strength=0.25))
    again = Keeper(tmp_path / FILE, GIVEN)
    again.keep(again.first)
    assert Keeper(tmp_path / FILE, GIVEN).first == Settings(strength=0.25)
    again.keep(GIVEN)
    assert Keeper(tmp_path / FILE, GIVEN).first == GIVEN


def test_only_changes_are_written(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / FILE, GIVEN)
    keeper.keep(Settings(strength=0.5))
    (tmp_path / FILE).unlink()
    keeper.keep(Settings(strength=0.5))
    assert not (tmp_path / FILE).exists()
    keeper.keep(Settings(strength=0.6))
    assert Keeper(tmp_path / FILE, GIVEN).first == Settings(strength=0.6)


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    assert Keeper(tmp_path / FILE, GIVEN).first == GIVEN


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    Keeper(tmp_path / "absent" / FILE, GIVEN).keep(Settings(strength=0.5))
    assert Keeper(tmp_path / "absent" / FILE, GIVEN).first == GIVEN


def test_only_a_service_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert service_file() is None
    keeper = Keeper(None, GIVEN)
    keeper.keep(Settings())
    keeper.forget()
    assert keeper.first == GIVEN
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/edge-denoise:/run/other")
    assert service_file() == Path("/run/edge-denoise") / FILE
