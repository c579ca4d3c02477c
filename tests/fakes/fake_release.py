"""A stand-in for pip and for the program that a release brings."""

from __future__ import annotations

from pathlib import Path


def fake_environment(release: Path, _: object = ()) -> dict[str, int]:
    """In place of `install_wheels`: a program that proves a release by reading its golden vectors."""
    program = release / "venv" / "bin" / "edge-denoise"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\ntest "$1" = --help || cat "$3/golden.npz" >/dev/null && echo "{}"\n')
    program.chmod(0o755)
    return {}
