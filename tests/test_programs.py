"""What both command lines do alike."""

from __future__ import annotations

import re
import shlex

import pytest
from places import ROOT

import edge_runtime
import edge_runtime.cli
import quant.cli
from edge_runtime.command import parser_of

PROGRAMS = {"edge-denoise": edge_runtime.cli, "quant": quant.cli}


@pytest.mark.parametrize(("name", "program"), PROGRAMS.items(), ids=PROGRAMS)
def test_without_a_command_the_help_is_printed(name, program, capfd):
    assert program.main([]) == 2
    out, err = capfd.readouterr()
    assert out.startswith(f"usage: {name} ")
    assert out.index("options:") > max(out.index(f"\n  {command.name} ") for command in program.COMMANDS)
    assert all(f"\n{title}:\n" in out for title in program.PROGRAM.groups)
    assert err == ""


@pytest.mark.parametrize(
    ("name", "bare", "needs"),
    [("quant", "build", "--target"), ("quant", "eval", "ARTIFACT"), ("quant", "qat", "--out"),
     ("quant", "deploy", "USER@BOARD"), ("quant", "verify", "DIR"), ("edge-denoise", "file", "IN, OUT")],
)  # fmt: skip
def test_a_command_that_needs_something_typed_alone_prints_its_help_and_what_it_needs(name, bare, needs, capfd):
    program = PROGRAMS[name]
    assert program.main([bare, "--help"]) == 0
    help_text = capfd.readouterr().out
    assert program.main([bare]) == 2
    out, err = capfd.readouterr()
    assert out == help_text
    assert err.startswith(f"{name}: error: the following arguments are required: {needs}")
    assert err.endswith(f"; see `{name} {bare} --help`\n")
    assert err.count("\n") == 1
    assert program.main([bare, "--debug"]) == 2
    assert capfd.readouterr().out == "", "with options it is a mistake, and its line is enough"


@pytest.mark.parametrize(("name", "program"), PROGRAMS.items(), ids=PROGRAMS)
def test_the_version_is_the_projects(name, program, capfd):
    assert program.main(["--version"]) == 0
    assert capfd.readouterr().out == f"{name} {edge_runtime.__version__}\n"
    assert f'\nversion = "{edge_runtime.__version__}"\n' in (ROOT / "pyproject.toml").read_text()


COMMANDS = [(name, command) for name, program in PROGRAMS.items() for command in program.COMMANDS]


@pytest.mark.parametrize(("name", "asked"), COMMANDS, ids=[f"{name} {asked.name}" for name, asked in COMMANDS])
def test_the_help_of_a_command_ends_with_two_examples_that_are_taken_and_a_page_that_is_there(name, asked, capfd):
    program = PROGRAMS[name]
    assert program.main([asked.name, "--help"]) == 0
    out = capfd.readouterr().out
    assert len(asked.examples) == 2
    assert "\n".join(["examples:", *(f"  {example}" for example in asked.examples)]) in out
    assert out.endswith(f"\nread on: docs/{asked.page}\n")
    assert (ROOT / "docs" / asked.page).is_file()
    for example in asked.examples:
        (piped,) = (part for part in example.split(" | ") if part.startswith(f"{name} {asked.name}"))
        typed = [word for word in shlex.split(piped)[1:] if not word.startswith((">", "<"))]
        assert parser_of(program.PROGRAM).parse_args(typed).run is asked.run, example


def test_what_is_typed_in_a_row_of_options_is_found_under_its_group(capfd):
    assert edge_runtime.cli.main(["live", "--help"]) == 0
    out = capfd.readouterr().out
    titles = re.findall(r"^(\w[\w ]+):$", out, re.MULTILINE)
    assert titles == ["options", "what denoises", "devices", "delay", "what is heard", "the run", "examples"]


TAKES_LONG = {
    "quant": {"build", "plan", "ablate", "budget", "qat", "train", "eval", "report", "card", "deploy", "pull",
              "networks", "verify"},
    "edge-denoise": {"bench", "verify", "doctor", "latency"},
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_takes_long_says_so(name):
    assert {command.name for command in PROGRAMS[name].COMMANDS if command.takes_long} == TAKES_LONG[name]
