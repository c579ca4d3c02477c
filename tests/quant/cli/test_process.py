"""`quant` as a process, and where what it needs is not installed."""

from __future__ import annotations

import os
import subprocess
import sys

import program_said
import pytest
from places import ROOT

from edge_runtime.extras import how_to_install
from quant.cli import main

BOARDS = [sys.executable, "-m", "quant.cli", "boards"]


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, quant.cli as c; c.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not {"numpy", "torch", "onnx", "msgspec", "rich", "soundfile", "importlib.metadata"} & loaded
    assert all(command in done.stdout for command in ("pull", "boards", "plan", "build", "verify", "budget"))


@pytest.mark.parametrize("options", [[], ["--json"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(options):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = program_said.run([*BOARDS, *options], cwd=ROOT, stdout=write_end)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=" ".join)
def test_a_closed_standard_output_is_no_error(options):
    done = program_said.run([*BOARDS, *options], cwd=ROOT, stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_board_without_the_compiler_is_told_the_extra(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    assert main(["boards"]) == 1
    remedy = how_to_install("build")
    assert capfd.readouterr().err == f"quant: error: this needs rich.console, not installed; {remedy}\n"
