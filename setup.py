"""Compiles the native engine and the LADSPA plugin where a compiler is there; without one only these two are away.

The library is plain C loaded with ctypes, so one build serves every Python of a machine.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("edge_runtime", "native")
# No fused multiply-add, no reordered sums: the 8-bit programs are exact. No errno: square roots are one instruction.
FLAGS = [
    "-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fno-asynchronous-unwind-tables",
    "-Wall", "-Wextra", "-Iedge_runtime/native/engine", "-Iedge_runtime/native/kernels", "-Iedge_runtime/native/band",
]  # fmt: skip
# Stripped, and without holes in the file; pages of 16 KB, as the Pi 5's kernel has them. Calls of its own functions are
# looked up nowhere, which saves more of a start than binding at load costs (no data is exported, and zig knows no
# -Bsymbolic-functions).
LINK_FLAGS = ["-s", "-Wl,-z,max-page-size=16384", "-Wl,-z,noseparate-code", "-Wl,-Bsymbolic"]
# Other people's programs load this: stacks and copies are guarded; whatever holds an address, tables of kernels too,
# is filled in at load and cannot be written after. Pairs for compiler and linker; what one does not know is left out.
HARDENING = [
    (["-fstack-protector-strong"], []),
    (["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"], []),
    ([], ["-Wl,-z,relro", "-Wl,-z,now"]),
]
# A library that a guard and a checked copy make sense in.
PROBE = """
#include <string.h>
void other(char *text);
void probe(const char *text, unsigned long n);
void probe(const char *text, unsigned long n)
{
    char copy[16];
    memcpy(copy, text, n);
    other(copy);
}
"""


def sources() -> list[str]:
    """The C files, sorted: the same inputs give the same library."""
    return [path.as_posix() for room in ("band", "engine", "kernels") for path in sorted(NATIVE.glob(f"{room}/*.c"))]


def plugin_sources() -> list[str]:
    """The LADSPA plugin's: it carries the engine in itself, for hosts load one file."""
    return [*(path.as_posix() for path in sorted(NATIVE.glob("ladspa/*.c"))), *sources()]


def hardening(builds: Callable[[list[str], list[str]], bool]) -> tuple[list[str], list[str]]:
    """The flags of HARDENING for compiler and linker that `builds`, which compiles PROBE with both, says yes to."""

    def joined(rows: list[tuple[list[str], list[str]]]) -> tuple[list[str], list[str]]:
        return [flag for row in rows for flag in row[0]], [flag for row in rows for flag in row[1]]

    if builds(*joined(HARDENING)):
        return joined(HARDENING)
    return joined([row for row in HARDENING if builds(*row)])


def probe(compile_flags: list[str], link_flags: list[str], compiler: list[str], linker: list[str]) -> bool:
    """Whether these commands make a shared library of PROBE with the flags, without a warning."""
    with tempfile.TemporaryDirectory() as folder:
        source, made, library = (str(Path(folder, f"probe.{suffix}")) for suffix in ("c", "o", "so"))
        Path(source).write_text(PROBE)
        compiling = [*compiler, "-O2", *compile_flags, "-Werror", "-c", source, "-o", made]
        fatal = ["-Wl,--fatal-warnings"] if link_flags else []  # GNU's linker merely warns of what it does not know
        linking = [*linker, made, *fatal, *link_flags, "-o", library]
        return all(subprocess.run(line, capture_output=True).returncode == 0 for line in (compiling, linking))


class BuildLibrary(build_ext):
    """A shared library with a name of its own, not an extension module, hardened as far as the compiler goes."""

    def build_extensions(self) -> None:
        compiler, linker = (getattr(self.compiler, name, None) for name in ("compiler_so", "linker_so"))
        if compiler and linker:  # as Unix has them
            flags = hardening(lambda compiling, linking: probe(compiling, linking, compiler, linker))
            for extension in self.extensions:
                extension.extra_compile_args += flags[0]
                extension.extra_link_args += flags[1]
        super().build_extensions()

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols


class BuildWheel(bdist_wheel):
    """For any Python 3 of this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def library(name: str, sources: list[str], *libraries: str) -> Extension:
    """One shared library; a failure to compile it leaves the rest of the package."""
    return Extension(
        f"edge_runtime.native.{name}",
        sources,
        depends=[path.as_posix() for path in sorted(NATIVE.glob("*/*.*")) if path.suffix in (".h", ".c", ".inc")],
        libraries=["m", *libraries],
        extra_compile_args=[*FLAGS],
        extra_link_args=[*LINK_FLAGS] if sys.platform == "linux" else [],
        optional=True,
    )


if __name__ == "__main__":  # quant/deploy/wheels.py reads the flags
    libraries = [library("libedge_denoise", sources())]
    if sys.platform == "linux":
        libraries.append(library("ladspa_edge_denoise", plugin_sources(), "dl"))
    setup(ext_modules=libraries, cmdclass={"build_ext": BuildLibrary, "bdist_wheel": BuildWheel})
