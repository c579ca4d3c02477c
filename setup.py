"""Compiles the native engine and the LADSPA plugin where a compiler is there; without one only these two are away.

The library is plain C loaded with ctypes, so one build serves every Python of a machine.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("edge_runtime", "native")
# No fused multiply-add, no reordered sums: the 8-bit programs are exact. No errno: square roots are one instruction.
FLAGS = [
    "-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fno-asynchronous-unwind-tables",
    "-Wall", "-Wextra", "-Iedge_runtime/native/engine", "-Iedge_runtime/native/kernels",
]  # fmt: skip
# Stripped, and without holes in the file; pages of 16 KB, as the Pi 5's kernel has them.
LINK_FLAGS = ["-s", "-Wl,-z,max-page-size=16384", "-Wl,-z,noseparate-code", "-Wl,-z,norelro"]


def sources() -> list[str]:
    """The C files, sorted: the same inputs give the same library."""
    return [path.as_posix() for path in sorted([*NATIVE.glob("engine/*.c"), *NATIVE.glob("kernels/*.c")])]


def plugin_sources() -> list[str]:
    """The LADSPA plugin's: it carries the engine in itself, for hosts load one file."""
    return [*(path.as_posix() for path in sorted(NATIVE.glob("ladspa/*.c"))), *sources()]


class BuildLibrary(build_ext):
    """A shared library with a name of its own, not an extension module."""

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
        extra_compile_args=FLAGS,
        extra_link_args=LINK_FLAGS if sys.platform == "linux" else [],
        optional=True,
    )


if __name__ == "__main__":  # quant/deploy/wheels.py reads the flags
    libraries = [library("libedge_denoise", sources())]
    if sys.platform == "linux":
        libraries.append(library("ladspa_edge_denoise", plugin_sources(), "dl"))
    setup(ext_modules=libraries, cmdclass={"build_ext": BuildLibrary, "bdist_wheel": BuildWheel})
