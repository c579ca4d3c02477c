"""Writes ed_tables.h, the constants of the Fourier transform: `python edge_runtime/native/make_tables.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW, HALF, SIDE = 512, 256, 16
TARGET = Path(__file__).parent / "ed_tables.h"
HEAD = """/* Constants of the Fourier transform, written by make_tables.py. */
#ifndef ED_TABLES_H
#define ED_TABLES_H

/* The periodic sqrt-Hann window. */
"""


def array(name: str, values: NDArray[np.float64]) -> str:
    """A C array of floats, eight a line, exact when read back."""
    texts = [f"{float(v)!r}f" for v in values.astype(np.float32)]
    lines = [f"    {', '.join(texts[i : i + 8])}," for i in range(0, len(texts), 8)]
    return "\n".join([f"static const float {name}[{len(texts)}] = {{", *lines, "};", ""])


def tables() -> str:
    """The header."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))
    twiddles = np.exp(-2j * np.pi * np.outer(np.arange(SIDE), np.arange(SIDE)) / HALF).ravel()
    unpack = np.exp(-2j * np.pi * np.arange(272) / WINDOW)  # 257 and padding to whole vectors
    return "\n".join(
        [
            HEAD + array("ed_window", window),
            "/* exp(-2 pi i j k / 256), [j][k]: between the two passes of 16. */",
            array("ed_twiddle_re", twiddles.real) + array("ed_twiddle_im", twiddles.imag),
            "/* exp(-2 pi i k / 512): from 256 complex bins to 257 of a real signal. */",
            array("ed_unpack_re", unpack.real) + array("ed_unpack_im", unpack.imag),
            "#endif\n",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(tables())
