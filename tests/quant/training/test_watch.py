"""What is seen of a run that goes on: without a terminal a line every few seconds, however long a step takes."""

from __future__ import annotations

import time
from pathlib import Path

from quant.training import watch
from quant.training.watch import Watch


def test_a_step_and_a_validation_that_take_long_are_told_while_they_last(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(watch, "LINE_EVERY_S", 0.05)
    monkeypatch.setattr(watch, "TICK_S", 0.01)
    said = list[str]()
    with Watch(said.append, 0, 4, tmp_path / "curves.png", "mine", quiet=False) as watching:
        while not said:  # however busy the machine is
            time.sleep(0.01)
        watching.step(1, 0.5, 1e-4)
        while not (said[-1].startswith("step 1 ") and said[-1].endswith("still at work")):
            time.sleep(0.01)
    assert said[0] == "step 0 of 4, still at work"
    assert said[-1].startswith("step 1 of 4: loss 0.5000, rate 1.0e-04, ")
    assert said[-1].endswith(" left, still at work")
    n = len(said)
    time.sleep(0.1)
    assert len(said) == n, "the run is over"


def test_of_another_process_nothing_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(watch, "LINE_EVERY_S", 0.01)
    monkeypatch.setattr(watch, "TICK_S", 0.01)
    said = list[str]()
    with Watch(said.append, 0, 4, tmp_path / "curves.png", "mine", quiet=True) as watching:
        watching.step(1, 0.5, 1e-4)
        time.sleep(0.05)
    assert said == []
