"""`edge-denoise install` and `uninstall`: what is shown is what is done, and undoing leaves every byte as it was."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from native_artifact import write_native

from edge_runtime.cli import PROGRAM, live, main
from edge_runtime.command import parser_of
from edge_runtime.install import service, virtual_mic
from edge_runtime.live.sound.front import FrontSettings

pytestmark = pytest.mark.skipif(
    find_spec("edge_runtime.native.ladspa_edge_denoise") is None, reason="the plugin is not compiled here"
)

FILES = [
    ".asoundrc",
    ".config/pipewire/pipewire.conf.d/60-edge-denoise.conf",
    ".local/lib/ladspa/edge_denoise.native",
    ".local/lib/ladspa/edge_denoise.so",
    ".local/share/edge-denoise/virtual-mic.json",
]
UNIT = "etc/systemd/system/edge-denoise.service"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_native(tmp_path / "model", b"weights \0 of some kind")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def tree(root: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def install(home: Path, model: Path, *options: str, what: str = "--virtual-mic") -> int:
    return main(["install", what, "--model", str(model), "--root", str(home), "--yes", *options])


def uninstall(home: Path, *options: str, what: str = "--virtual-mic") -> int:
    return main(["uninstall", what, "--root", str(home), "--yes", *options])


@pytest.mark.parametrize("asoundrc", [None, b"", b"pcm.x { type null }\n", b"# no newline at the end", b"\n\n"])
def test_undone_exactly(home: Path, model: Path, asoundrc: bytes | None) -> None:
    if asoundrc is not None:
        (home / ".asoundrc").write_bytes(asoundrc)
    (home / ".config").mkdir()
    before = tree(home)
    assert install(home, model) == 0
    assert [name for name, content in tree(home).items() if content is not None] == FILES
    assert (home / ".local/lib/ladspa/edge_denoise.native").read_bytes() == (model / "model.native").read_bytes()
    text = (home / ".asoundrc").read_text()
    assert text.startswith((asoundrc or b"").decode())
    assert "pcm.edge_denoise {" in text.splitlines()
    assert uninstall(home) == 0
    assert tree(home) == before


def test_the_same_again_changes_nothing_and_an_update_is_undone_too(home: Path, model: Path, tmp_path: Path) -> None:
    (home / ".asoundrc").write_text("pcm.x { type null }\n")
    before = tree(home)
    assert install(home, model) == 0
    once = tree(home)
    assert install(home, model) == 0
    assert tree(home) == once
    other = write_native(tmp_path / "other", b"other weights")
    assert install(home, other, "--source", "alsa_input.usb", "--alsa-source", "plughw:1,0") == 0
    assert (home / ".local/lib/ladspa/edge_denoise.native").read_bytes() == b"other weights"
    assert 'target.object = "alsa_input.usb"' in (home / FILES[1]).read_text()
    assert 'slave.pcm "plughw:1,0"' in (home / FILES[0]).read_text()
    assert (home / ".asoundrc").read_text().count(">>> edge-denoise") == 1
    assert uninstall(home) == 0
    assert tree(home) == before


def test_a_dry_run_shows_all_and_does_nothing(home: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--virtual-mic", "--model", str(model), "--root", str(home), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert tree(home) == {}
    for name in FILES[:-1]:
        assert f"add {home / name}" in shown
    assert "    +pcm.edge_denoise {" in shown
    assert install(home, model, "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert sorted(edit["path"] for edit in done["edits"]) == [str(home / name) for name in FILES[:-1]]
    assert {edit["verb"] for edit in done["edits"]} == {"add"}


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_it_asks(home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main(["install", "--virtual-mic", "--model", str(model), "--root", str(home)]) == status
    assert bool(tree(home)) == (status == 0)


def edited(home: Path, name: str) -> bytes:
    content = (home / name).read_bytes()
    mine = content.replace(b"# <<<", b"# my own line\n# <<<") if name == ".asoundrc" else content + b"#"
    (home / name).write_bytes(mine)
    return mine


@pytest.mark.parametrize("name", FILES[2:4])
def test_a_plugin_that_was_changed_is_not_removed(
    home: Path, model: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(home, model)
    edited(home, name)
    changed = tree(home)
    capsys.readouterr()
    assert uninstall(home) == 1
    assert "was changed" in capsys.readouterr().err
    assert tree(home) == changed
    assert install(home, model) == 1
    assert tree(home) == changed
    assert uninstall(home, "--force") == 0
    assert tree(home) == {}


@pytest.mark.parametrize("name", FILES[:2])
def test_a_configuration_that_was_edited_is_kept_and_saved_when_it_has_to_go(
    home: Path, model: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(home, model)
    mine = edited(home, name)
    other = write_native(tmp_path / "other", b"other weights")
    for options in ((), ("--strength", "0.5"), ("--strength", "0.5")):
        capsys.readouterr()
        assert install(home, other, *options) == 0
        assert f"  {home / name}: edited since, and kept; --force replaces it" in capsys.readouterr().out
        assert (home / name).read_bytes() == mine
    assert (home / FILES[2]).read_bytes() == b"other weights", "what was not edited is renewed"
    (home / f"{name}.edge-denoise-saved").write_text("an older one")
    assert uninstall(home) == 0
    saved = {path: content for path, content in tree(home).items() if content is not None}
    assert saved == {f"{name}.edge-denoise-saved": b"an older one", f"{name}.edge-denoise-saved1": mine}


@pytest.mark.parametrize("name", FILES[:2])
def test_an_edited_configuration_is_replaced_by_force(home: Path, model: Path, name: str) -> None:
    install(home, model)
    once = tree(home)
    edited(home, name)
    assert install(home, model, "--force") == 0
    assert tree(home) == once
    edited(home, name)
    assert uninstall(home, "--force") == 0
    assert tree(home) == {}


def test_an_edited_unit_is_kept_too(home: Path, model: Path) -> None:
    install(home, model, what="--service")
    (home / UNIT).write_text("mine")
    assert install(home, model, what="--service") == 0
    assert (home / UNIT).read_text() == "mine"
    assert uninstall(home, what="--service") == 0
    assert [path for path, content in tree(home).items() if content is not None] == [f"{UNIT}.edge-denoise-saved"]


def test_the_strength_is_in_both_configurations(home: Path, model: Path) -> None:
    assert install(home, model, "--strength", "0.75") == 0
    assert '"Strength" = 0.75' in (home / FILES[1]).read_text()
    assert "controls [ 0.75 100.0 0.0 1.0 ]" in (home / FILES[0]).read_text()


def test_lines_around_the_block_are_the_users(home: Path, model: Path) -> None:
    install(home, model)
    text = (home / ".asoundrc").read_text()
    (home / ".asoundrc").write_text(f"# before\n{text}# after\n")
    assert uninstall(home) == 0
    assert (home / ".asoundrc").read_text() == "# before\n# after\n"


def test_lines_that_a_joint_held_apart_stay_apart(home: Path, model: Path) -> None:
    """What was the last line without an end, perhaps a comment, must not swallow what was written behind the block."""
    (home / ".asoundrc").write_text("# no newline at the end")
    install(home, model)
    with (home / ".asoundrc").open("a") as file:
        file.write("pcm.mine { type null }\n")
    assert uninstall(home) == 0
    assert (home / ".asoundrc").read_text() == "# no newline at the end\npcm.mine { type null }\n"


def test_any_encoding_is_kept(home: Path, model: Path) -> None:
    latin = "# für mich\n".encode("latin-1")
    (home / ".asoundrc").write_bytes(latin)
    assert install(home, model) == 0
    assert uninstall(home) == 0
    assert (home / ".asoundrc").read_bytes() == latin


def receipt(home: Path, *done: dict[str, object], folders: tuple[str, ...] = ()) -> None:
    path = home / FILES[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"sha256": "", "block": "", "created": True}
    rows = [known | each for each in done]
    text = {"format": "edge-denoise-install", "version": 1, "done": rows, "folders": list(folders)}
    path.write_text(json.dumps(text))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


FOREIGN = {
    "a file elsewhere": lambda home: {"path": str(home.parent / "thesis.tex"), "sha256": digest("mine")},
    "a file of the same home": lambda home: {"path": str(home / "thesis.tex"), "sha256": digest("mine")},
    "by a way around": lambda home: {"path": ".local/lib/ladspa/../../../thesis.tex", "sha256": digest("mine")},
    "the whole of .asoundrc": lambda home: {"path": ".asoundrc", "sha256": digest("mine")},
    "lines that are no block of ours": lambda home: {"path": ".asoundrc", "block": "mine"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_receipt_that_names_anything_else_is_refused(
    home: Path, model: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (home / "thesis.tex", home.parent / "thesis.tex", home / ".asoundrc"):
        name.write_text("mine")
    receipt(home, FOREIGN[what](home))
    before = tree(home.parent)
    for run in (uninstall, lambda home, *options: install(home, model, *options)):
        for force in ((), ("--force",)):
            assert run(home, *force) == 1
            assert "which no installation makes; look at it by hand" in capsys.readouterr().err
            assert tree(home.parent) == before


def test_no_folder_goes_that_is_not_of_an_installation(home: Path) -> None:
    (home / "Music").mkdir()
    receipt(home, folders=(str(home / "Music"), "Music", str(home), str(home.parent)))
    assert uninstall(home) == 0
    assert (home / "Music").is_dir()


def test_a_home_that_has_moved_is_undone_where_it_is(home: Path, model: Path) -> None:
    install(home, model)
    moved = home.rename(home.with_name("moved"))
    assert uninstall(moved) == 0
    assert tree(moved) == {}


def test_a_receipt_of_before_with_absolute_paths_is_undone(home: Path) -> None:
    (home / ".config/edge-denoise").mkdir(parents=True)
    (home / ".config/edge-denoise/asound.conf").write_text("old")
    done = {"path": str(home / ".config/edge-denoise/asound.conf"), "sha256": digest("old")}
    receipt(home, done, folders=(str(home / ".config"), str(home / ".config/edge-denoise")))
    for folder in (".local/share/edge-denoise", ".local/share", ".local"):
        assert (home / folder).is_dir()
    assert uninstall(home) == 0
    assert not (home / ".config").exists()


@pytest.mark.parametrize(
    ("named", "has_folder", "read"),
    [
        ("home/xdg", True, "xdg"),
        ("home/../home/xdg", True, "xdg"),
        ("home/xdg", False, ".config"),  # PipeWire looks on
        ("relative", True, ".config"),
        ("elsewhere", True, ""),  # refused
    ],
)
def test_the_chain_goes_where_pipewire_looks(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, has_folder: bool, read: str
) -> None:
    """And comes back from there, wherever that is by then."""
    if has_folder:
        (tmp_path / named / "pipewire/pipewire.conf.d").mkdir(parents=True)
    before = tree(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", named if named == "relative" else str(tmp_path / named))
    assert install(home, model) == (0 if read else 1)
    assert not read or (home / read / FILES[1].removeprefix(".config/")).exists()
    assert virtual_mic.is_set_up(home) == bool(read)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert uninstall(home) == (0 if read else 1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [".asoundrc", ".config"])
def test_no_link_leads_an_installation_out_of_its_root(
    home: Path, model: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir() if name == ".config" else outside.write_text("root:x:0:0\n")
    (home / name).symlink_to(outside)
    before = tree(tmp_path)
    assert install(home, model) == 1
    assert f"leads out of {home}" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_link_within_stays_a_link(home: Path, model: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles/asoundrc").write_text("pcm.x { type null }\n")
    (home / ".asoundrc").symlink_to("dotfiles/asoundrc")
    assert install(home, model) == 0
    assert (home / ".asoundrc").is_symlink()
    assert "pcm.edge_denoise" in (home / "dotfiles/asoundrc").read_text()
    assert uninstall(home) == 0
    assert (home / "dotfiles/asoundrc").read_text() == "pcm.x { type null }\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to install for somebody else")
def test_what_root_makes_in_somebodys_home_is_theirs(home: Path, model: Path) -> None:
    (home / ".asoundrc").write_text("")
    for path in (home, home / ".asoundrc"):
        os.chown(path, 12345, 54321)
    assert install(home, model) == 0
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert owners == {(12345, 54321)}


def test_what_is_gone_already_is_no_obstacle(home: Path, model: Path) -> None:
    install(home, model)
    for name in FILES[:4]:
        (home / name).unlink()
    assert uninstall(home) == 0
    assert tree(home) == {}


def test_a_failure_leaves_everything_as_it_was(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full at each of the six files in turn, the receipt first and last; or a rename is refused."""
    from edge_runtime.install import edits

    (home / ".asoundrc").write_text("pcm.x { type null }\n")
    before, real = tree(home), edits.written_whole
    for n, is_late in itertools.product(range(1, 7), (False, True)):
        seen = [0, 0]

        @contextmanager
        def fails(path: Path, *, seen: list[int] = seen, n: int = n, is_late: bool = is_late, **options: int) -> Any:
            with real(path, **options) as part:
                seen[0] += 1
                if seen[0] == n and not is_late:
                    raise OSError(28, "No space left on device", str(part))
                yield part
                seen[1] += 1
                if seen[1] == n and is_late:
                    raise OSError(1, "Operation not permitted", str(part))

        monkeypatch.setattr(edits, "written_whole", fails)
        assert install(home, model) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert ("Operation not permitted" if is_late else "No space left on device") in line
        assert line.endswith("; everything is as before")
        assert ".part" not in line
        assert tree(home) == before


BAD = [
    ("nothing chosen", ["install", "--model", "M"], 2, "one of the arguments --virtual-mic --service is required"),
    ("both", ["install", "--virtual-mic", "--service", "--model", "M"], 2, "not allowed with argument"),
    ("capture", ["install", "--virtual-mic", "--model", "M", "--capture", "hw:0"], 1, "--capture is for --service"),
    ("source", ["install", "--service", "--model", "M", "--source", "x"], 1, "--source is for --virtual-mic"),
    ("nobody to ask", ["install", "--virtual-mic", "--model", "M"], 1, "nothing was changed; pass --yes"),
    ("no artifact", ["install", "--virtual-mic", "--model", "gone", "--yes"], 1, "gone"),
    ("odd node", ["install", "--virtual-mic", "--model", "M", "--source", "a\nb", "--yes"], 1, "has signs that"),
    (
        "odd device",
        ["install", "--service", "--model", "M", "--capture", "hw\nExecStartPre=x", "--yes"],
        1,
        "signs that",
    ),
    ("nothing installed", ["uninstall", "--virtual-mic", "--yes"], 1, "nothing is installed here"),
    ("foreign file", ["install", "--virtual-mic", "--model", "M", "--yes", "--root", "FOREIGN"], 1, "is not ours"),
    ("not a receipt", ["uninstall", "--virtual-mic", "--yes", "--root", "BROKEN"], 1, "not a receipt"),
    ("a file as root", ["install", "--virtual-mic", "--model", "M", "--yes", "--root", "FILE"], 1, "Not a directory"),
]


@pytest.mark.parametrize(("argv", "status", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_refused_in_one_line(
    home: Path,
    model: Path,
    argv: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in (FILES[3], "broken/" + FILES[4]):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("theirs")
    (home / "file").touch()
    (home / "empty").mkdir()
    before = tree(home)
    words = {"M": str(model), "FOREIGN": str(home), "BROKEN": str(home / "broken"), "FILE": str(home / "file")}
    argv = [words.get(word, word) for word in argv]
    root = [] if "--root" in argv else ["--root", str(home / "empty")]
    assert main([*argv, *root]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert tree(home) == before


@pytest.mark.parametrize("named", ["relative", None])
def test_a_home_folder_that_nobody_names_is_not_guessed(model, tmp_path, monkeypatch, capsys, named) -> None:
    """As in a container, for a user of no name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME") if named is None else monkeypatch.setenv("HOME", named)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    assert main(["install", "--virtual-mic", "--model", str(model), "--yes"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(", not the path of a home folder; set it, or give --root DIR")
    assert main(["devices"]) in (0, 1)
    assert "please report it" not in capsys.readouterr().err
    assert not (tmp_path / "relative").exists()


def test_the_service_is_installed_and_undone(home: Path, model: Path) -> None:
    assert install(home, model, "--capture", "plughw:1,0", "--playback", "hw:Loop back", what="--service") == 0
    unit = (home / UNIT).read_text()
    assert f'live --wait --capture plughw:1,0 --playback "hw:Loop back" --model {model}' in unit
    assert uninstall(home, what="--service") == 0
    assert tree(home) == {}


def test_a_service_hears_as_it_was_told_after_every_restart(home: Path, model: Path) -> None:
    """What the unit starts, `live` reads as what was asked for."""
    wanted = ("--channels", "best", "--band", "full", "--input-gain-db", "auto", "--highpass", "80")
    assert install(home, model, *wanted, "--capture", "plughw:CARD=Device", what="--service") == 0
    (line,) = [line for line in (home / UNIT).read_text().splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line)
    args = parser_of(PROGRAM).parse_args(words[words.index("live") :])
    plan = live._plan(args)
    assert (plan.channels.best, plan.band, plan.capture_wish.rate_hz) == (True, "full", 48_000)
    assert plan.front == FrontSettings(gain_db=None, highpass_hz=80.0)
    assert install(home, model, "--input-gain-db", "-6", "--highpass", "off", what="--service") == 0  # again, otherwise
    assert "--input-gain-db=-6 --highpass=off" in (home / UNIT).read_text()


@pytest.mark.parametrize(
    ("argv", "status", "line"),
    [
        (("--virtual-mic", "--band", "full"), 1, "--band is for --service; leave it out"),
        (("--virtual-mic", "--input-gain-db", "auto"), 1, "--input-gain-db is for --service; leave it out"),
        (("--service", "--channels", "0"), 1, "--channels is '0'; give best, mix, all, or numbers from 1 such as 1,3"),
        (("--service", "--highpass", "1000"), 2, "argument --highpass: '1000' is not a number from 10 to 300 Hz"),
    ],
)
def test_what_no_service_can_hear_is_refused_at_once(home, model, capsys, argv, status, line) -> None:
    options = [] if status == 2 else ["--root", str(home)]
    assert main(["install", *argv, "--model", str(model), "--yes", *options]) == status
    assert line in capsys.readouterr().err
    assert tree(home) == {}


def test_what_lies_in_hidden_folders_is_bound_whatever_its_name(model: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a:b "c" 50%'
    odd.symlink_to(model)
    binds = service._binds([odd.resolve(), odd])
    assert f"BindReadOnlyPaths={model}\n" in binds
    assert f'BindReadOnlyPaths="{tmp_path}/a:b \\"c\\" 50%%"\n' in binds


@pytest.mark.parametrize(
    ("what", "option", "device", "is_noted"),
    [
        ("--service", "--capture", "hw:9", True),
        ("--service", "--playback", "plughw:9,0", True),
        ("--service", "--capture", "hw:CARD=Device", False),
        ("--virtual-mic", "--alsa-source", "plughw:9,0", True),
        ("--virtual-mic", "--alsa-source", "default", False),
    ],
)
def test_a_card_by_its_number_is_noted(
    home: Path, model: Path, what: str, option: str, device: str, is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(home, model, option, device, what=what) == 0
    assert (f"note: {option} {device}: a card's number changes" in capsys.readouterr().err) == is_noted


def units(home: Path, model: Path) -> dict[str, str]:
    """Both that are ever written."""
    install(home, model, what="--service")
    return {"machine": (home / UNIT).read_text(), "user": service.users_unit("/bin/true", "%h/m", "hw:A", "default")}


def test_a_service_is_never_given_up(home: Path, model: Path) -> None:
    """But for a command that was typed wrongly, which no waiting mends."""
    for text in (*units(home, model).values(), service.instances_unit("/bin/true")):
        assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartPreventExitStatus=2"} <= set(text.splitlines())
        assert " live --wait " in text


def test_the_unit_of_the_debian_package_has_a_folder_for_each_card() -> None:
    text = service.instances_unit("/usr/bin/edge-denoise")
    assert (
        "ExecStart=/usr/bin/edge-denoise live --wait --capture plughw:CARD=%i --playback ${PLAYBACK} $OPTIONS" in text
    )
    assert {"RuntimeDirectory=edge-denoise/%i", "Environment=XDG_RUNTIME_DIR=%t/edge-denoise/%i"} <= set(
        text.splitlines()
    )


def test_what_comes_next_can_be_typed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without a desktop may have no PipeWire to restart."""
    there = {"pipewire": "/usr/bin/pipewire"}
    monkeypatch.setattr(virtual_mic, "which", there.get)
    assert virtual_mic.next_step().startswith("`systemctl --user restart pipewire`")
    there.clear()
    assert "restart" not in virtual_mic.next_step()
    assert "`sudo apt install pipewire wireplumber`" in virtual_mic.next_step()


def packaged(monkeypatch: pytest.MonkeyPatch, plugin: Path) -> None:
    """As Debian's package installs it."""
    monkeypatch.setattr(virtual_mic, "debian_package", lambda: "edge-denoise 0.2.0")
    monkeypatch.setattr(virtual_mic, "SYSTEM_PLUGIN", plugin)


def test_the_plugin_of_the_debian_package_is_named_not_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PipeWire 1.6 looks for plugins by name alone."""
    plugin = tmp_path / "edge_denoise.so"
    plugin.touch()
    packaged(monkeypatch, plugin)
    assert main(["install", "--virtual-mic", "--root", str(home), "--yes"]) == 0
    assert sorted(name for name, data in tree(home).items() if data is not None) == [
        name for name in FILES if "ladspa" not in name
    ]
    chain = (home / ".config/pipewire/pipewire.conf.d/60-edge-denoise.conf").read_text()
    assert 'plugin = "edge_denoise"' in chain
    assert f'filename "{plugin}"' in (home / ".asoundrc").read_text()
    assert uninstall(home) == 0
    assert tree(home) == {}


def test_a_model_of_ones_own_has_a_plugin_of_its_own_under_debian_too(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(monkeypatch, model / "model.native")
    assert install(home, model) == 0
    assert (home / ".local/lib/ladspa/edge_denoise.native").read_bytes() == b"weights \0 of some kind"


def test_both_units_are_of_one_template(home: Path, model: Path) -> None:
    of_machine, of_user = (set(text.splitlines()) for text in units(home, model).values())
    own = {"Written by", "After=", "ExecStart=", "ProtectHome=", "WantedBy="}
    assert all(any(sign in line for sign in own) for line in of_user - of_machine)
    for text in (of_machine, of_user):
        assert {"Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=on-failure"} <= text
        assert any(line.startswith("ExecStart=") and " live --wait " in line for line in text)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    ("whose", "most"), [("machine", 15), ("of a card", 15), ("user", 60), ("user, told to be one", 30)]
)
def test_systemd_has_no_complaint_about_the_unit(home: Path, model: Path, whose: str, most: int) -> None:
    """Silent: unknown keys and bad values only warn. Exposure in tenths: 100 is all, 96 a unit that says nothing. A
    user's is read as if root ran it; told that its user has no capabilities, as is so, it counts half."""
    unit = home / ("edge-denoise@.service" if whose == "of a card" else "edge-denoise.service")
    text = {**units(home, model), "of a card": service.instances_unit("/bin/true")}[whose.partition(",")[0]]
    told = "[Service]\nUser=daemon\nCapabilityBoundingSet=" if "," in whose else "[Service]"
    unit.write_text(text.replace("[Service]", told))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", unit]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-300:]
