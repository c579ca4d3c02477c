"""Devices that vanish, come late, come back as another, or open and do not run, under a running stream."""

from __future__ import annotations

import errno

import pytest
from fake_sound import FakeDevice, FakePcm, World, noise, run
from heard_sound import true_latency_ms

from edge_runtime.alsa.pcm import Outcome
from edge_runtime.errors import Failure
from edge_runtime.live.channels import Channels
from edge_runtime.live.status import Status


def test_a_device_that_is_unplugged_is_awaited():
    world = World()
    world.absent = [(3.0, 8.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 10.0)
    assert status.n_disconnects == 1
    assert world.now_s > 15  # ten seconds of sound, five without
    assert true_latency_ms(capture, playback, from_s=10.0) == pytest.approx(45.0, abs=0.1)


def test_a_device_that_is_not_there_at_the_start_is_a_failure_unless_it_shall_be_awaited():
    world = World()
    world.absent = [(0.0, 4.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    with pytest.raises(Failure, match="fake: capture cannot be opened"):
        run(world, capture, playback, 1.0)
    seen: list[tuple[str, str]] = []
    status = Status()
    sleep = world.sleep
    world.sleep = lambda s: (seen.append(status.doing), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 1.0, status=status, waits=True)
    assert seen[0] == ("waiting", "fake: capture cannot be opened (No such device); plug it in")
    assert status.doing == ("stopped", "")


def test_a_microphone_that_comes_after_a_day_is_awaited_so_long():
    """With nothing that grows meanwhile: 172,800 tries."""
    world, day_s = World(), 86_400.0
    world.absent = [(0.0, day_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 2.0, waits=True)
    assert day_s + 2 < world.now_s < day_s + 4
    assert (status.doing[1], status.n_disconnects, status.n_starts) == ("", 0, 0)
    assert true_latency_ms(capture, playback, from_s=day_s + 1) == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("n_times", [1, 3])
def test_a_suspend_is_counted_and_sound_goes_on_as_before(n_times):
    world = World()
    world.suspends = [3.0 + k for k in range(n_times)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status = run(world, capture, playback, 10.0)
    assert (status.n_suspends, status.n_disconnects, status.n_stalls) == (n_times, 0, 0)
    assert (status.n_overruns, status.n_underruns) == (0, 0)
    assert world.now_s < 12
    assert true_latency_ms(capture, playback, from_s=7.0) == pytest.approx(45.0, abs=0.1)


@pytest.mark.parametrize("away_s", [0.0, 5.0])
def test_a_sound_server_that_is_restarted_or_changed_is_opened_anew(away_s):
    """What was open says xrun for ever; while no server runs, the status says what is missing."""
    world, waits_for = World(), set[str]()
    world.restarts, world.absent = [3.0], [(5.0, 5.0 + away_s)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (waits_for.add(status.doing[1]), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 10.0, status=status)
    assert status.n_disconnects >= 1
    assert world.now_s < 12 + away_s
    assert waits_for - {""} == ({"fake: capture cannot be opened (No such device); plug it in"} if away_s else set())
    assert status.doing[1] == ""
    assert true_latency_ms(capture, playback, from_s=8.0 + away_s) == pytest.approx(45.0, abs=0.1)


def test_a_card_that_comes_back_under_another_number_is_found_by_its_name():
    """As ALSA finds it: the name is looked up whenever it is opened."""
    world, opened = World(), []
    world.absent = [(3.0, 6.0)]
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)

    def open_pcm(name, direction, wish):
        cards = ["playback", "capture"] if world.now_s < 3.0 else ["webcam", "playback", "capture"]
        pcm = {"capture": capture, "playback": playback}[name].open(direction, wish)
        opened.append((name, cards.index(name)))
        return pcm

    status = run(world, capture, playback, 8.0, open_pcm=open_pcm)
    assert opened == [("capture", 1), ("playback", 0), ("capture", 2), ("playback", 1)]
    assert status.n_disconnects == 1
    assert true_latency_ms(capture, playback, from_s=8.0) == pytest.approx(45.0, abs=0.1)


class Dead(FakePcm):
    """It can be opened, and that is all, or reads so often, until `until_s`."""

    until_s, fails_with, n_reads = 5.0, Outcome.DISCONNECTED, 0

    def read(self, block, n=None, timeout_ms=1000):
        self.n_reads -= 1
        if self.world.now_s >= self.until_s or self.n_reads >= 0:
            return super().read(block, n, timeout_ms)
        self.last_errno = errno.ENODEV
        if self.fails_with is Outcome.TIMEOUT:
            self.world.sleep(timeout_ms / 1000)
        return self.fails_with


DEAD = [
    (0, Outcome.DISCONNECTED, "does not run (No such device)"),
    (0, Outcome.XRUN, "does not run (No such device)"),
    (0, Outcome.TIMEOUT, "does not run (its clock stands still)"),
    (30, Outcome.DISCONNECTED, "runs for a moment (No such device)"),  # a third of a second
    (30, Outcome.TIMEOUT, "runs for a moment (its clock stands still)"),
]


@pytest.mark.parametrize(("n_reads", "fails_with", "what"), DEAD)
def test_a_device_that_opens_and_does_not_run_is_awaited_and_told(monkeypatch, n_reads, fails_with, what):
    """Such a stream was opened anew all the time, as fast as the board could, and called starting."""
    world, waits_for = World(), []
    capture, playback = FakeDevice(world, sound=noise()), FakeDevice(world)
    monkeypatch.setattr(Dead, "fails_with", fails_with)
    monkeypatch.setattr(Dead, "n_reads", n_reads)
    capture.open = lambda direction, wish: Dead(capture, direction, 4096)  # type: ignore[method-assign]
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (waits_for.append(status.doing), sleep(s))[1]  # type: ignore[method-assign]
    run(world, capture, playback, 2.0, status=status)
    told = [reason.partition("; ")[0] for state, reason in waits_for if state == "waiting"]
    assert set(told) == {f"fake: capture opens and {what}"}
    assert len(told) < 12
    assert status.doing == ("stopped", "")
    assert true_latency_ms(capture, playback, from_s=world.now_s - 1.5) == pytest.approx(45.0, abs=0.1)


CANNOT_COME = [
    ({"band": "full"}, {"rate_hz": 20_001}, "capture: no full band: .*; --band speech ends at 8 kHz"),
    ({"channels": Channels((5,))}, {}, r"has 1 channel\(s\), not 5; choose from 1 to 1"),
    ({"channels": Channels((1, 2))}, {"n_channels": 2}, r"has 1 channel\(s\) for 2 streams; choose fewer"),
]


@pytest.mark.parametrize(("plan", "has", "message"), CANNOT_COME)
def test_what_cannot_come_is_not_awaited(plan, has, message):
    world = World()
    world.absent = [(0.0, 2.0)]
    with pytest.raises(Failure, match=message):
        run(world, FakeDevice(world, sound=noise(), **has), FakeDevice(world, 48_000), 1.0, waits=True, **plan)
    assert world.now_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("own", "other", "plan"),
    [
        ({"n_channels": 2}, {"n_channels": 1}, {"channels": Channels((2,))}),
        ({"rate_hz": 48_000}, {"rate_hz": 20_001}, {"band": "full"}),
    ],
)
def test_a_device_that_comes_back_unfit_is_awaited_all_the_same(own, other, plan):
    """Perhaps another one was plugged in: this stream has run, and goes on when its own is back."""
    world = World()
    world.absent = [(3.0, 4.0)]
    has = {"rate_hz": 16_000, "n_channels": 1, **own}
    capture = FakeDevice(world, **has, sound=noise(has["n_channels"], rate_hz=has["rate_hz"]))
    others, playback = FakeDevice(world, **other), FakeDevice(world, 48_000)

    def open_pcm(name, direction, wish):
        is_other = name == "capture" and 3.0 < world.now_s < 6.0
        return (others if is_other else capture if name == "capture" else playback).open(direction, wish)

    status = run(world, capture, playback, 6.0, open_pcm=open_pcm, **plan)
    assert status.n_disconnects == 1
    assert world.now_s > 9.0


def test_nothing_is_heard_while_a_device_is_awaited():
    world, levels = World(), set()
    world.absent = [(3.0, 8.0)]
    status, sleep = Status(), world.sleep
    world.sleep = lambda s: (levels.add(status.levels_dbfs), sleep(s))[1]  # type: ignore[method-assign]
    run(world, FakeDevice(world, sound=noise()), FakeDevice(world), 4.0, status=status)
    assert ((-120.0, -120.0),) in levels
