"""What is built guards its stacks and seals its tables, and a compiler that cannot still builds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elf_facts import facts_of
from places import NATIVE

from quant.emit.native.file import KINDS

setup = pytest.importorskip("setup", reason="an installed package has no setup.py")

LIBRARIES = [NATIVE / name for name in ("libedge_denoise.so", "ladspa_edge_denoise.so")]
N_TABLE_BYTES = len(KINDS) * 4  # a pointer a kind, on the smallest processor

pytestmark = pytest.mark.skipif(sys.platform != "linux" or shutil.which("readelf") is None, reason="needs ELF, readelf")


@pytest.fixture(params=LIBRARIES, ids=lambda path: path.stem)
def built(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    if not path.exists():
        pytest.skip("not compiled here: no C compiler")
    return path


def test_addresses_are_resolved_at_load_and_sealed(built: Path) -> None:
    facts = facts_of(built)
    assert facts.binds_at_load
    assert not facts.wx


def test_calls_within_the_library_are_looked_up_nowhere(built: Path) -> None:
    """Or binding at load would slow a start down."""
    relocations = subprocess.run(["readelf", "-rW", str(built)], capture_output=True, text=True, check=True).stdout
    assert " ed_" not in relocations


def test_no_table_of_kernels_stays_writable(built: Path) -> None:
    """All of them lie in what is sealed; the compiler's own start code has some bytes that stay writable."""
    facts = facts_of(built)
    assert facts.n_sealed_bytes > 2 * N_TABLE_BYTES
    assert facts.n_writable_bytes < N_TABLE_BYTES


def test_stacks_are_guarded_and_copies_checked(built: Path) -> None:
    imports = facts_of(built).imports
    assert "__stack_chk_fail" in imports
    assert any(name.endswith("_chk") for name in imports)


@pytest.mark.parametrize("refused", [flags for row in setup.HARDENING for flags in row if flags], ids=" ".join)
def test_what_a_compiler_does_not_know_is_left_out(refused: list[str]) -> None:
    asked = [flag for row in setup.HARDENING for flags in row for flag in flags]
    compile_flags, link_flags = setup.hardening(lambda *both: not set(refused) & {f for flags in both for f in flags})
    assert [*compile_flags, *link_flags] == [flag for flag in asked if flag not in refused]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize(
    ("compile_flags", "link_flags", "builds"),
    [
        (["-fstack-protector-strong"], ["-Wl,-z,relro"], True),
        (["-fno-such-guard"], [], False),
        ([], ["-Wl,-z,no-such-word"], False),  # the linker merely warns of it
        (["-D_FORTIFY_SOURCE=2", "-D_FORTIFY_SOURCE=1"], [], False),  # so does the compiler of a word said twice
    ],
)
def test_a_compiler_is_asked_with_a_small_library(
    compile_flags: list[str], link_flags: list[str], builds: bool
) -> None:
    assert setup.probe(compile_flags, link_flags, ["gcc", "-fPIC"], ["gcc", "-shared"]) is builds


def test_without_a_compiler_nothing_is_asked_for() -> None:
    assert setup.hardening(lambda *flags: setup.probe(*flags, ["false"], ["false"])) == ([], [])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_a_compiler_that_guards_nothing_builds_it_as_before(tmp_path: Path) -> None:
    """A gcc that refuses every flag of hardening."""
    compiler = tmp_path / "old-gcc"
    words = "|".join(f"*{flag}*" for row in setup.HARDENING for flags in row for flag in flags)
    compiler.write_text(f'#!/bin/sh\ncase "$*" in {words}) exit 1 ;; esac\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    options = ["--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"]
    environment = {"PATH": "/usr/bin:/bin", "CC": str(compiler), "LDSHARED": f"{compiler} -shared", "CFLAGS": "-O0"}
    line = [sys.executable, "setup.py", "-q", "build_ext", *options]
    subprocess.run(line, cwd=NATIVE.parents[1], env=environment, check=True, capture_output=True, timeout=600)
    facts = facts_of(tmp_path / "lib" / "edge_runtime" / "native" / LIBRARIES[0].name)
    assert "__stack_chk_fail" not in facts.imports
