"""The page of a running `live`: who may ask, and in a real browser: controls move the sound, pictures move, a lost
stream is said and found again."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from fake_sound import FakeDenoiser, FakeDevice, World, noise, run

from edge_runtime.cli import main
from edge_runtime.cli.panel import to_a_stream
from edge_runtime.errors import Failure
from edge_runtime.live.control.control_socket import ControlServer, answer
from edge_runtime.live.control.heard import FLOOR_DBFS, N_BANDS, Heard
from edge_runtime.live.status import Status
from edge_runtime.panel import server
from edge_runtime.panel.guard import Guard
from edge_runtime.panel.server import open_server
from edge_runtime.stft import HOP_SAMPLES

pytest.importorskip("bottle", reason="bottle is not installed: the extra `panel`")
SLOW_S = 60.0  # for anything, on a busy machine


class Wall(World):
    """Virtual time that passes as the wall's does."""

    def wake_at(self, when_s: float) -> None:
        before_s = self.now_s
        super().wake_at(when_s)
        time.sleep(max(0.0, self.now_s - before_s))


class Live:
    """A stream of noise, of which a denoiser takes 20 dB, behind a control socket that can be lost."""

    def __init__(self, folder: Path) -> None:
        self.status, self._path = Status(), folder / "live.sock"
        world = Wall()
        capture = FakeDevice(world, sound=noise())
        denoisers = [FakeDenoiser(world, gain=0.1)]
        threading.Thread(
            target=lambda: run(world, capture, FakeDevice(world), 600.0, denoisers, self.status), daemon=True
        ).start()
        self.start()
        guard = Guard(address="127.0.0.1", port=0, token="")
        self._server = open_server(guard, to_a_stream(lambda: self._path, folder))
        self.port = self._server.server_port
        self._server.set_app(open_app(self.port, self._path))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def start(self) -> None:
        self._socket = ControlServer(self._path, self.status)

    def lose(self) -> None:
        self._socket.close()

    def end(self) -> None:
        self.lose()
        self._server.shutdown()
        self._server.server_close()


def open_app(port: int, path: Path, token: str = "") -> Any:
    from edge_runtime.live.control.control_socket import ask
    from edge_runtime.panel.server import application

    return application(Guard(address="127.0.0.1", port=port, token=token), lambda message: ask(path, message))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("panel"))
    yield made
    made.end()


def asked(port: int, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=SLOW_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# --- who may ask ----------------------------------------------------------------------------------------------------

HERE = Guard(address="127.0.0.1", port=8765, token="")
THERE = Guard(address="192.168.1.20", port=8765, token="secret")
ASKED = [
    # guard, host, origin, token: how the refusal begins
    (HERE, "127.0.0.1:8765", None, "", ""),
    (HERE, "localhost:8765", "http://localhost:8765", "", ""),
    (HERE, "127.0.0.1:80", None, "", "this is not 127.0.0.1:80; open http://127.0.0.1:8765/"),
    (HERE, "evil.example:8765", None, "", "this is not evil.example:8765"),
    (HERE, "", None, "", "this is not a nameless host"),
    (HERE, "127.0.0.1:8765", "http://evil.example", "", "another site, http://evil.example, may not ask here"),
    (HERE, "127.0.0.1:8765", "null", "", "another site, null,"),
    (THERE, "192.168.1.20:8765", None, "secret", ""),
    (THERE, "192.168.1.20:8765", None, "", "the token is missing or wrong"),
    (THERE, "192.168.1.20:8765", None, "secre", "the token is missing or wrong"),
    (THERE, "192.168.1.20:8765", None, "sécret", "the token is missing or wrong"),
    (THERE, "localhost:8765", None, "secret", "this is not localhost:8765"),
]


@pytest.mark.parametrize(("guard", "host", "origin", "token", "begins"), ASKED)
def test_only_who_may_is_let_in(guard: Guard, host: str, origin: str | None, token: str, begins: str) -> None:
    line = guard.refusal(host, origin, token)
    assert line.startswith(begins)
    assert bool(line) == bool(begins)
    assert "\n" not in line


def test_beside_a_virtual_microphone_the_page_says_how_that_is_steered(tmp_path: Path) -> None:
    """In one line, and only where there is one and no stream."""
    to_live = to_a_stream(lambda: tmp_path / "none.sock", tmp_path)
    with pytest.raises(Failure, match="nobody answers"):
        to_live({"command": "status"})
    chain = tmp_path / ".config/pipewire/pipewire.conf.d/60-edge-denoise.conf"
    chain.parent.mkdir(parents=True)
    chain.touch()
    with pytest.raises(Failure) as raised:
        to_live({"command": "status"})
    assert "out of a page's reach; steer it by `pw-cli s edge_denoise Props" in str(raised.value)
    assert "\n" not in str(raised.value)


REFUSED = [
    # path, headers, body: status, line
    ("/", {"Host": "evil.example"}, None, 403, "this is not evil.example; open http://127.0.0.1:"),
    ("/state", {"Origin": "http://evil.example"}, None, 403, "another site, http://evil.example, may not ask here"),
    ("/control", {"Origin": "null"}, b'{"command": "reset"}', 403, "another site, null, may not ask here"),
    ("/control", {}, b"{", 400, "a message is a line of JSON"),
    ("/control", {}, b"[" * 4000, 400, "a message is a line of JSON"),
    ("/control", {}, b'{"command": "set", "strength": NaN}', 400, "a message is a line of JSON"),
    ("/control", {}, b'{"command": "set", "strength": 1e999}', 400, "a message is a line of JSON"),
    ("/control", {"Content-Length": "99999999999"}, b"{}", 413, "a message has at most 4096 bytes, and says how many"),
    ("/control", {"Content-Length": "abc"}, b"{}", 413, "a message has at most 4096 bytes, and says how many"),
    ("/control", {"Content-Length": "-5"}, b"{}", 413, "a message has at most 4096 bytes, and says how many"),
    ("/control", {"Transfer-Encoding": "chunked"}, b"{}", 413, "a message has at most 4096 bytes, and says how many"),
    ("/state", {"Host": "\xff"}, None, 403, "this is not \xff; open http://127.0.0.1:"),
    ("/state", {"Origin": "\xff"}, None, 403, "another site, \xff, may not ask here"),
    ("/nothing", {}, None, 404, "404 Not Found"),
    ("/control", {}, None, 405, "405 Method Not Allowed"),
    ("/control", {}, b"[1]", 400, "a command is one of set, bypass, reset"),
    ("/control", {}, b'{"command": "status"}', 400, "a command is one of set, bypass, reset"),
    ("/control", {}, b'{"command": "set", "strength": 7}', 503, "refused: strength is 7.0, it goes from 0 to 1"),
]


@pytest.mark.parametrize(("path", "headers", "body", "status", "line"), REFUSED)
def test_a_refusal_is_one_line(live: Live, capfd: Any, path: str, headers: dict[str, str], body: bytes | None, status: int, line: str) -> None:  # fmt: skip # noqa: E501
    code, text = asked(live.port, path, headers, body)
    assert code == status
    assert line in text
    assert text.count("\n") == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /state?seen=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Token: \xe9\r\n\r\n",
        b"POST /control HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 9\r\n\r\n{",  # and no more
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1",  # and no more
    ],
)
def test_an_odd_or_slow_request_is_no_traceback(
    live: Live, capfd: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server._Quiet, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", live.port), SLOW_S) as client:
        client.sendall(sent.replace(b"PORT", str(live.port).encode()))
        reply = client.makefile("rb").read()
    assert reply == b"" or reply.split()[1] in (b"200", b"408")
    assert asked(live.port, "/state")[0] == 200
    assert capfd.readouterr().err == ""


def test_the_page_asks_for_nothing_from_outside(live: Live) -> None:
    code, page = asked(live.port, "/")
    assert code == 200
    assert "http://" not in page
    assert "https://" not in page
    with urllib.request.urlopen(f"http://127.0.0.1:{live.port}/", timeout=SLOW_S) as reply:
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--listen", "board.local"], "--listen is 'board.local'; give an address of this machine, such as"),
        (["--listen", "0.0.0.0"], "--listen is '0.0.0.0'; give an address of this machine, such as"),
        (["--listen", "::"], "--listen is '::'; give an address of this machine, such as"),
        (["--listen", "203.0.113.7"], "cannot listen on 203.0.113.7 port 8765 (Cannot assign requested address)"),
    ],
)
def test_what_cannot_be_listened_on_is_one_line(capfd: Any, argv: list[str], message: str) -> None:
    assert main(["panel", *argv]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(("argv", "module"), [([], "bottle"), (["--listen", "192.168.1.20"], "segno")])
def test_what_is_missing_is_named_with_what_to_type(
    capfd: Any, monkeypatch: pytest.MonkeyPatch, argv: list[str], module: str
) -> None:
    from edge_runtime import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else name)
    assert main(["panel", *argv]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{module} is not installed; `" in line
    assert "[panel]" in line


def own_address() -> str:
    """That is the machine's and not 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            pytest.skip("this machine has no other address")


def test_beyond_this_machine_a_token_is_printed_and_asked_for(tmp_path: Path) -> None:
    """Started as a user starts it, on an address that is the machine's and not 127.0.0.1."""
    import re
    import subprocess
    import sys

    address = own_address()
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edge_runtime.cli", "panel", "--listen", address, "--port", str(port)]
    panel = subprocess.Popen([*command, "--socket", str(tmp_path / "none")], stdout=subprocess.PIPE, text=True)
    try:
        link = panel.stdout.readline().strip()  # type: ignore[union-attr]
        assert re.fullmatch(rf"http://{re.escape(address)}:{port}/\?token=[\w-]{{22}}", link)
        with urllib.request.urlopen(link, timeout=SLOW_S) as reply:
            assert b"edge-denoise" in reply.read()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(link.partition("?")[0], timeout=SLOW_S)
        assert (refused.value.code, refused.value.read()) == (
            403,
            b"the token is missing or wrong; open the link that `edge-denoise panel` printed\n",
        )
    finally:
        panel.terminate()
        panel.wait(SLOW_S)


def dots(lines: list[str]) -> Any:
    """A code of half blocks, two rows of it a line, as an image: 8 pixels a module."""
    halves = {" ": (0, 0), "\u2580": (1, 0), "\u2584": (0, 1), "\u2588": (1, 1)}
    rows = [[halves[letter][k] for letter in line] for line in lines for k in (0, 1)]
    return np.kron(np.array(rows, np.uint8) * 255, np.ones((8, 8), np.uint8))


def test_the_code_on_a_terminal_is_the_link(tmp_path: Path) -> None:
    """Read as a phone's camera would, off a dark terminal, by a reader that is not the writer's."""
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    import os
    import pty
    import subprocess
    import sys

    ours, theirs = pty.openpty()
    panel = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime.cli", "panel", "--listen", own_address(), "--port", str(free_port())],
        stdout=theirs,
        env=os.environ | {"PYTHONUTF8": "1", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    os.close(theirs)
    shown = b""
    try:
        while True:
            shown += os.read(ours, 65_536)
            link, *lines = shown.decode(errors="replace").split("\r\n")
            if len(lines) > 1 and len(lines) - 1 >= (len(lines[0]) + 1) // 2:  # as high as it is wide
                break
    finally:
        panel.terminate()
        panel.wait(SLOW_S)
        os.close(ours)
    (code,) = zxingcpp.read_barcodes(dots(lines[:-1]))
    assert "?token=" in link
    assert code.text == link


def free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the picture ----------------------------------------------------------------------------------------------------


def test_the_spectra_are_those_of_the_hops_not_seen() -> None:
    heard, at_s = Heard(), np.arange(HOP_SAMPLES) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 2000 * at_s)).astype(np.float32)
    for _ in range(100):
        heard.push(tone, 0 * tone)
    shown = heard.since(95)
    assert (shown["n_hops"], len(shown["before_dbfs"]), len(shown["after_dbfs"])) == (100, 5, 5)
    column = np.array(shown["before_dbfs"][0])
    assert column.size == N_BANDS
    assert column.argmax() == N_BANDS * 2000 // 8000
    assert 10 * np.log10(np.sum(10 ** (column / 10.0))) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1.0)
    assert (np.array(shown["after_dbfs"]) == FLOOR_DBFS).all()
    assert [len(heard.since(n)["before_dbfs"]) for n in (100, 0, 10**9)] == [0, 63, 0]


def test_the_socket_gives_spectra_with_the_status() -> None:
    status = Status()
    status.heard.push(np.zeros(HOP_SAMPLES, np.float32), np.zeros(HOP_SAMPLES, np.float32))
    reply = json.loads(answer(b'{"command": "spectra", "seen": 0}', status))
    assert reply["ok"]
    assert reply["spectra"]["n_hops"] == 1
    assert reply["status"]["state"] == "starting"


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as driver:
        yield driver


def until(what: Callable[[], Any], seconds: float = SLOW_S) -> None:
    """It becomes true in time."""
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s, "it did not become true"
        time.sleep(0.05)


@pytest.fixture
def page(chromium: Any, live: Live) -> Any:
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    chromium.get(f"http://127.0.0.1:{live.port}/")
    until(lambda: words(chromium, "state") == "running")
    return chromium


def words(page: Any, name: str) -> str:
    return str(page.execute_script("return document.getElementById(arguments[0]).textContent", name))


def picture(page: Any, name: str) -> str:
    return str(page.execute_script("return document.getElementById(arguments[0]).toDataURL()", name))


def slide(page: Any, name: str, value: float) -> None:
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    page.execute_script(script + "e.dispatchEvent(new Event('input'))", name, value)


def test_controls_move_the_sound(page: Any, live: Live) -> None:
    until(lambda: float(words(page, "taken").split()[0]) == pytest.approx(20.0, abs=1.0))
    slide(page, "strength", 0.5)
    until(lambda: live.status.settings.strength == 0.5)
    until(lambda: float(words(page, "taken").split()[0]) == pytest.approx(5.2, abs=1.0))
    assert words(page, "strength-value") == "50 %"
    slide(page, "limit", 12)
    slide(page, "gate", -50)
    until(lambda: (live.status.settings.limit_db, live.status.settings.gate_dbfs) == (12.0, -50.0))
    slide(page, "limit", 42)
    slide(page, "gate", -82)
    slide(page, "strength", 1)
    until(lambda: live.status.settings == Status().settings)
    page.execute_script("document.getElementById('bypass').click()")
    until(lambda: live.status.settings.bypass)
    until(lambda: float(words(page, "taken").split()[0]) == pytest.approx(0.0, abs=0.5))
    page.execute_script("document.getElementById('bypass').click()")
    until(lambda: not live.status.settings.bypass)


def test_a_key_that_is_held_compares(page: Any, live: Live) -> None:
    key = "dispatchEvent(new KeyboardEvent(arguments[0], {code: 'Space', cancelable: true}))"
    page.execute_script(key, "keydown")
    until(lambda: live.status.settings.bypass)
    page.execute_script(key, "keyup")
    until(lambda: not live.status.settings.bypass)


def test_the_pictures_move(page: Any) -> None:
    for name in ("picture-before", "picture-after"):
        first = picture(page, name)
        until(lambda name=name, first=first: picture(page, name) != first)  # type: ignore[misc]
    assert picture(page, "picture-before") != picture(page, "picture-after")


def test_a_lost_stream_is_said_and_found_again(page: Any, live: Live) -> None:
    live.lose()
    until(lambda: words(page, "state").startswith("no sound: "))
    assert "nobody answers" in words(page, "state")
    live.start()
    until(lambda: words(page, "state") == "running")


@pytest.mark.parametrize("width_px", [360, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_nothing_is_wrong(page: Any, width_px: int, scheme: str) -> None:
    metrics = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.get_log("browser")
    page.refresh()
    until(lambda: words(page, "state") == "running")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width_px
    errors = [line["message"] for line in page.get_log("browser") if "favicon" not in line["message"]]
    assert errors == []
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 26)") == (scheme == "dark")
