"""Speech metrics by name, each from a kept library.

pesq     PESQ wide-band, MOS-LQO (`pesq`)                      stoi, estoi   intelligibility, 0 to 1 (`pystoi`)
sisdr    scale-invariant SDR in dB: Le Roux et al., "SDR - half-baked or well done?" (2019), equation 3
dnsmos   DNSMOS P.835 (`speechmos`): three columns, overall, speech and background quality, without the clean sound
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array

DEFAULT_METRICS: Final = ("pesq", "stoi", "sisdr")

DNSMOS_MODEL: Final = "dnsmos_models/sig_bak_ovr.onnx"
DNSMOS_WINDOW_S: Final = 9.01
# From what the network says to a mean opinion score: column -> its place in the output, polynomial (DNS Challenge).
DNSMOS_SCALES: Final[Mapping[str, tuple[int, tuple[float, ...]]]] = {
    "dnsmos_ovrl": (2, (-0.06766283, 1.11546468, 0.04602535)),
    "dnsmos_sig": (0, (-0.08397278, 1.22083953, 0.0052439)),
    "dnsmos_bak": (1, (-0.13166888, 1.60915514, -0.39604546)),
}


class Metric(NamedTuple):
    """`measure` takes (clean, enhanced), each (n,) at 16 kHz, and returns one value a column."""

    columns: tuple[str, ...]
    measure: Callable[[Float32Array, Float32Array], tuple[float, ...]]
    package: str = "numpy"


def pesq_wb(clean: Float32Array, enhanced: Float32Array) -> float:
    """PESQ wide-band, MOS-LQO."""
    from pesq import pesq

    return float(pesq(SAMPLE_RATE_HZ, clean, enhanced, "wb"))


def _pesq(clean: Float32Array, enhanced: Float32Array) -> tuple[float]:
    return (pesq_wb(clean, enhanced),)


def _stoi(clean: Float32Array, enhanced: Float32Array) -> tuple[float]:
    return (_defined_stoi(clean, enhanced, extended=False),)


def _estoi(clean: Float32Array, enhanced: Float32Array) -> tuple[float]:
    """pystoi adds a last bit of noise from NumPy's global generator: drawn alike here, so that a clip scores alike."""
    before = np.random.get_state()  # noqa: NPY002  theirs is the legacy generator
    np.random.seed(0)  # noqa: NPY002  the one that pystoi draws from
    try:
        return (_defined_stoi(clean, enhanced, extended=True),)
    finally:
        np.random.set_state(before)  # noqa: NPY002  given back as it was


def _defined_stoi(clean: Float32Array, enhanced: Float32Array, *, extended: bool) -> float:
    """NaN where pystoi returns 1e-5: fewer than 30 frames of speech are left, 0.4 s."""
    from pystoi import stoi

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = float(stoi(clean, enhanced, SAMPLE_RATE_HZ, extended=extended))
    return float("nan") if any(issubclass(each.category, RuntimeWarning) for each in told) else found


def si_sdr_db(clean: Float32Array, enhanced: Float32Array) -> float:
    """Scale-invariant signal to distortion ratio; NaN where one of them is silent."""
    clean, enhanced = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (clean, enhanced))
    power = float((clean * clean).sum())
    if power == 0:
        return float("nan")
    target = float((clean * enhanced).sum()) / power * clean  # sums, not dot products: the same on any thread count
    rest = max(float(((enhanced - target) ** 2).sum()), 1e-20)
    heard = float((target * target).sum())
    return float(10 * np.log10(heard / rest)) if heard > 0 else float("nan")


def _si_sdr(clean: Float32Array, enhanced: Float32Array) -> tuple[float]:
    return (si_sdr_db(clean, enhanced),)


def _dnsmos(clean: Float32Array, enhanced: Float32Array) -> tuple[float, ...]:
    """What `speechmos.dnsmos.run` returns, from the network in its wheel.

    Its own code is not run: it imports librosa and so numba, half a gigabyte and 13 s, for a fourth score (P.808) that
    is not reported here. Samples beyond full scale are cut off, as in the 16-bit file that speechmos would read.
    """
    heard = np.clip(enhanced, -1, 1)
    n_window = int(DNSMOS_WINDOW_S * SAMPLE_RATE_HZ)
    while len(heard) < n_window:
        heard = np.append(heard, heard)
    windows = _dnsmos_windows(heard, n_window)
    raw = np.array([_dnsmos_session().run(None, {"input_1": window[None]})[0][0] for window in windows])
    return tuple(float(np.polyval(p, raw[:, i].astype(np.float64)).mean()) for i, p in DNSMOS_SCALES.values())


def _dnsmos_windows(heard: Float32Array, n_window: int) -> list[Float32Array]:
    """Windows of 9.01 s, one a second; like speechmos', one that its arithmetic makes a sample short is left out."""
    n_windows = int(np.floor(len(heard) / SAMPLE_RATE_HZ) - DNSMOS_WINDOW_S) + 1
    ends = [int((i + DNSMOS_WINDOW_S) * SAMPLE_RATE_HZ) for i in range(n_windows)]
    cuts = [heard[i * SAMPLE_RATE_HZ : end] for i, end in enumerate(ends)]
    return [np.ascontiguousarray(cut, dtype=np.float32) for cut in cuts if len(cut) == n_window]


@cache
def _dnsmos_session() -> Any:
    """Opened once a process, on one thread: the processes are what runs in parallel."""
    import onnxruntime

    package = find_spec("speechmos")
    if package is None or package.origin is None:
        raise Failure("dnsmos needs speechmos, not installed", remedy="pip install 'edge-denoise[eval]'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(package.origin).parent / DNSMOS_MODEL
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


HINTS: Final = {"pesq": "; it has room for 50 utterances: cut the recording"}  # where it dies
_WHY: Final = dict.fromkeys(("stoi", "estoi"), ": it needs 0.4 s of speech")

METRICS: Final[Mapping[str, Metric]] = {
    "pesq": Metric(("pesq",), _pesq, "pesq"),
    "stoi": Metric(("stoi",), _stoi, "pystoi"),
    "estoi": Metric(("estoi",), _estoi, "pystoi"),
    "sisdr": Metric(("sisdr",), _si_sdr),
    "dnsmos": Metric(tuple(DNSMOS_SCALES), _dnsmos, "speechmos"),
}


def columns(names: Sequence[str]) -> list[str]:
    """The columns of these metrics, in order."""
    return [column for name in names for column in METRICS[name].columns]


def score(names: Sequence[str], clean: Float32Array, enhanced: Float32Array) -> dict[str, float]:
    """Column -> value of each metric. Failure: a value is not finite; libraries raise their own kinds for silence."""
    values: dict[str, float] = {}
    for name in names:
        metric = METRICS[name]
        values.update(zip(metric.columns, metric.measure(clean, enhanced), strict=True))
    if odd := [column for column, value in values.items() if not np.isfinite(value)]:
        raise Failure(f"{odd[0]} is not defined for it{_WHY.get(odd[0], '')}")
    return values


def choose_metrics(text: str) -> list[str]:
    """Names from a comma-separated list. Failure: an unknown one, or its package is not installed."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in METRICS]:
        raise Failure(f"unknown metric {unknown[0]!r}", where="--metrics", remedy=f"choose from {','.join(METRICS)}")
    for name in names:
        package = METRICS[name].package
        if find_spec(package) is None:
            raise Failure(f"{name} needs {package}, not installed", remedy="pip install 'edge-denoise[eval]'")
    return names
