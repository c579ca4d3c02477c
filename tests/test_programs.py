"""What both command lines do alike."""

from __future__ import annotations

import re

import pytest
from places import ROOT

import edge_runtime
import edge_runtime.cli
import quant.cli

PROGRAMS = {"edge-denoise": edge_runtime.cli, "quant": quant.cli}


@pytest.mark.parametrize(("name", "program"), PROGRAMS.items(), ids=PROGRAMS)
def test_without_a_command_the_help_is_printed(name, program, capfd):
    assert program.main([]) == 2
    out, err = capfd.readouterr()
    assert out.startswith(f"usage: {name} ")
    assert all(re.search(rf"\n    {command.name}\s", out) for command in program.COMMANDS)
    assert err == ""


@pytest.mark.parametrize(("name", "program"), PROGRAMS.items(), ids=PROGRAMS)
def test_the_version_is_the_projects(name, program, capfd):
    assert program.main(["--version"]) == 0
    assert capfd.readouterr().out == f"{name} {edge_runtime.__version__}\n"
    assert f'\nversion = "{edge_runtime.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
