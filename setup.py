"""Compiles the native engine where a compiler is there; without one the package installs and only that engine is away.

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
    "-Wall", "-Wextra",
]  # fmt: skip
# Stripped, and without holes in the file; pages of 16 KB, as the Pi 5's kernel has them.
LINK_FLAGS = ["-s", "-Wl,-z,max-page-size=16384", "-Wl,-z,noseparate-code", "-Wl,-z,norelro"]


def sources() -> list[str]:
    """The C files, sorted: the same inputs give the same library."""
    return [path.as_posix() for path in sorted(NATIVE.glob("ed_*.c"))]


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


if __name__ == "__main__":  # wheels.py reads the flags
    setup(
        ext_modules=[
            Extension(
                "edge_runtime.native.libedge_denoise",
                sources(),
                depends=[path.as_posix() for path in sorted(NATIVE.glob("*.[hc]"))],
                libraries=["m"],
                extra_compile_args=FLAGS,
                extra_link_args=LINK_FLAGS if sys.platform == "linux" else [],
                optional=True,
            )
        ],
        cmdclass={"build_ext": BuildLibrary, "bdist_wheel": BuildWheel},
    )
