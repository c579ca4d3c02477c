"""Writes ed_tables.c, the constants of the Fourier transform: `python edge_runtime/native/engine/make_tables.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW, HALF, SIDE = 512, 256, 16
TARGET = Path(__file__).parent / "ed_tables.c"
HEAD = """/* Constants of the Fourier transform, written by make_tables.py. */
#include "ed_tables.h"

"""

WINDOWS = """\
/* -DED_ONLY_WINDOW, where flash is dear: the one of the weights. */
#if !defined(ED_ONLY_WINDOW) || ED_ONLY_WINDOW == 0
#define SQRT_HANN {{sqrt_hann, sqrt_hann}}
{sqrt_hann}#else
#define SQRT_HANN {{NULL, NULL}}
#endif

#if !defined(ED_ONLY_WINDOW) || ED_ONLY_WINDOW == 1
#define HANN {{hann, hann_synthesis}}
{hann}
{hann_synthesis}#else
#define HANN {{NULL, NULL}}
#endif

const ed_window ed_windows[ED_N_WINDOWS] = {{SQRT_HANN, HANN}};
"""


def array(name: str, values: NDArray[np.float64], storage: str = "const float") -> str:
    """A C array of floats, eight a line, exact when read back."""
    texts = [f"{float(v)!r}f" for v in values.astype(np.float32)]
    lines = [f"    {', '.join(texts[i : i + 8])}," for i in range(0, len(texts), 8)]
    return "\n".join([f"{storage} {name}[{len(texts)}] = {{", *lines, "};", ""])


def tables() -> str:
    """The file."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    windows = {
        "sqrt_hann": np.sqrt(hann),  # its squares add up to 1
        "hann": hann,
        "hann_synthesis": hann / (hann**2 + np.roll(hann, HALF) ** 2),
    }
    twiddles = np.exp(-2j * np.pi * np.outer(np.arange(SIDE), np.arange(SIDE)) / HALF).ravel() / 2
    unpack = np.exp(-2j * np.pi * np.arange(272) / WINDOW)  # 257 and padding to whole vectors
    return HEAD + "\n".join(
        [
            WINDOWS.format(**{name: array(name, values, "static const float") for name, values in windows.items()}),
            array("ed_twiddle_re", twiddles.real),
            array("ed_twiddle_im", twiddles.imag),
            array("ed_unpack_re", unpack.real),
            array("ed_unpack_im", unpack.imag),
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(tables())
