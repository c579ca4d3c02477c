"""Boards are data: one TOML a board, id = file name, no inheritance; this module loads and checks them.

    board = boards.load("rpi4")             a board of this package, by id
    board = boards.load("my/board.toml")    a board of your own: any path that ends in .toml

The TOML, every field with its unit (all are required, save where a default is named):

    title = "Raspberry Pi 4 Model B"
    preferred_engine = "tflite"         # native | onnx | tflite
    n_threads = 1                       # threads the engine may use
    ram_bytes = 1_073_741_824           # bytes; the smallest version sold

    [cpu]
    core = "Cortex-A72"
    isa = "armv8-a"
    features = ["asimd", "crc32"]       # as 64-bit Linux names them in /proc/cpuinfo: asimd is NEON,
                                        # asimddp the int8 dot product, fphp and asimdhp half floats
    n_cores = 4
    clock_mhz = 1500                    # MHz, the maximum of the model in the title, not overclocked
    l2_bytes = 1_048_576                # bytes of L2 that one core can use; default: unknown

    [[os]]                              # one table a system release, the preferred one first; os = [] if
                                        # none runs there: a build then leaves C sources
    release = "bookworm"
    python = "3.11"                     # what the release calls python3
    word_bits = 64                      # bits of a pointer in user space
    extras = ["litert", "onnx"]         # pip extras of edge-denoise that install there, the preferred first:
                                        # onnx -> onnx; litert, tflite -> tflite; build -> both

    [alsa]
    capture = "plughw:CARD=Device,DEV=0"  # PCM names, as for arecord -D and aplay -D; cards by name
    playback = "default"
    rate_hz = 16_000                    # Hz asked of the PCM
    native_rate_hz = 48_000             # Hz to expect of a microphone that has no rate_hz of its own
    period_samples = 256                # samples a period and channel, at rate_hz
    n_periods = 4                       # periods a buffer

    [budget]                            # the most that a model may need on this board
    n_parameters = 180_000              # learned and fixed numbers of the float model
    mmacs_per_s = 150.0                 # million multiply-accumulates a second of audio
    model_bytes = 2_097_152             # bytes of one model file
    ram_bytes = 8_388_608               # bytes of state, activations and model, not of Python and libraries
    rtf = 0.25                          # mean processing time / audio time, one thread

    [sources]                           # where a figure comes from, by field path; default: empty
    "cpu.clock_mhz" = "Raspberry Pi documentation, Processors: BCM2711"
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import msgspec

from edge_runtime import bounded
from edge_runtime.errors import Failure, did_you_mean

__all__ = [
    "ENGINES", "EXTRAS", "Alsa", "Board", "Budget", "Cpu", "Os",
    "describe", "load", "load_file", "names", "unsourced",
]  # fmt: skip

ENGINES = ("native", "onnx", "tflite")

# pip extra of edge-denoise -> the engines that it installs
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx",),
    "litert": ("tflite",),
    "tflite": ("tflite",),
    "build": ("onnx", "tflite"),
}

_SUFFIX = ".toml"
_REMEDY = "python -m pydoc boards lists the fields"


class Cpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The processor; fields and units in the module's docstring."""

    core: str
    isa: str
    features: tuple[str, ...]
    n_cores: int
    clock_mhz: int
    l2_bytes: int | None = None

    def __post_init__(self) -> None:
        _named(self, "core", "isa")
        _positive(self, "n_cores", "clock_mhz", *(["l2_bytes"] if self.l2_bytes is not None else []))
        _require(all(re.fullmatch(r"\S+", f) for f in self.features), "features must be words without spaces")


class Os(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One system release, its Python, and the pip extras that install there."""

    release: str
    python: str
    word_bits: int
    extras: tuple[str, ...]

    def __post_init__(self) -> None:
        _named(self, "release")
        release = re.fullmatch(r"3\.(\d{1,3})", self.python)
        if release is None:
            raise ValueError(f"python must look like 3.11, got {self.python!r}")
        _require(self.word_bits in (32, 64), f"word_bits must be 32 or 64, got {self.word_bits}")
        for extra in self.extras:
            _require(extra in EXTRAS, f"unknown extra {extra!r}, the extras are: {', '.join(EXTRAS)}")
        # tflite-runtime 2.14, the last, has wheels up to Python 3.11; pyproject.toml says the same.
        installs = "tflite" not in self.extras or int(release[1]) < 12
        _require(installs, f"extra tflite does not install on Python {self.python}, the last one is 3.11")

    def extra_for(self, engine: str) -> str | None:
        """The preferred pip extra that installs `engine` here, or None."""
        return next((extra for extra in self.extras if engine in EXTRAS[extra]), None)


class Alsa(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Defaults of the sound devices."""

    capture: str
    playback: str
    rate_hz: int
    native_rate_hz: int
    period_samples: int
    n_periods: int

    def __post_init__(self) -> None:
        _named(self, "capture", "playback")
        _positive(self, "rate_hz", "native_rate_hz", "period_samples")
        _require(self.n_periods >= 2, f"n_periods must be at least 2, got {self.n_periods}")

    @property
    def period_ms(self) -> float:
        """Duration of one period, ms."""
        return 1e3 * self.period_samples / self.rate_hz

    @property
    def buffer_ms(self) -> float:
        """Duration of a whole buffer, ms."""
        return self.n_periods * self.period_ms


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The most that a model may need on this board."""

    n_parameters: int
    mmacs_per_s: float
    model_bytes: int
    ram_bytes: int
    rtf: float

    def __post_init__(self) -> None:
        _positive(self, *self.__struct_fields__)
        _require(self.rtf <= 1, f"rtf must be at most 1, or the board falls behind, got {self.rtf:g}")
        _require(self.model_bytes <= self.ram_bytes, "model_bytes must not exceed ram_bytes, which holds it")


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One target; `name` is the file name without .toml, the other fields are those of the file."""

    name: str
    title: str
    preferred_engine: str
    n_threads: int
    ram_bytes: int
    cpu: Cpu
    os: tuple[Os, ...]
    alsa: Alsa
    budget: Budget
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _named(self, "title")
        _positive(self, "n_threads", "ram_bytes")
        word = re.fullmatch(r"[A-Za-z0-9_-]+", self.name)
        _require(bool(word), f"a board's file name must be letters, digits, - and _, got {self.name!r}")
        threads, cores = self.n_threads, self.cpu.n_cores
        _require(threads <= cores, f"n_threads must not exceed cpu.n_cores, {threads} > {cores}")
        _require(self.budget.ram_bytes <= self.ram_bytes, "budget.ram_bytes must not exceed ram_bytes")
        self._check_words()
        self._check_engine()
        self._check_sources()

    @property
    def bare(self) -> bool:
        """No system that runs Python: what is built for it is C."""
        return not self.os

    def _check_words(self) -> None:  # they get into units, pages and terminals
        for path, word in [*_leaves(self), *((f"sources {path!r}", text) for path, text in self.sources.items())]:
            _require(
                not isinstance(word, str) or word.isprintable(), f"{path} must be one line of signs that are printed"
            )

    def _check_engine(self) -> None:
        engine = self.preferred_engine
        _require(engine in ENGINES, f"unknown preferred_engine {engine!r}, the engines are: {', '.join(ENGINES)}")
        _require(bool(self.os) or engine == "native", "without an os, preferred_engine must be 'native'")
        for system in self.os:
            missing = f"os {system.release} has no extra for preferred_engine {engine!r}"
            _require(engine == "native" or system.extra_for(engine) is not None, missing)  # native needs no extra

    def _check_sources(self) -> None:
        stray = sorted(set(self.sources) - {path for path, _ in _leaves(self)})
        _require(not stray, f"sources names {', '.join(stray)}, which is no field of this board")


def names() -> list[str]:
    """Ids of the boards in this package, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(file[: -len(_SUFFIX)] for file in files if file.endswith(_SUFFIX))


def load(name: str) -> Board:
    """The board of this package with the id `name`; a `name` that ends in .toml is a path, see `load_file`.

    Raises Failure for an unknown id and for a file that does not describe a board.
    """
    if name.endswith(_SUFFIX):
        return load_file(name)
    if name not in names():
        raise _unknown(name)
    data = (resources.files(__name__) / (name + _SUFFIX)).read_bytes()
    return _parse(name, data, where=f"boards/{name}{_SUFFIX}")


def load_file(path: str | os.PathLike[str]) -> Board:
    """The board that the TOML at `path` describes; its id is the file's name without .toml.

    Raises Failure for a file that cannot be read or does not describe a board.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            return _parse(file.stem, opened.read(bounded.MOST_TOML_BYTES + 1), where=path)
    except OSError as error:
        remedy = f"the boards of this package are: {', '.join(names())}"
        raise Failure(f"cannot read this board: {error.strerror}", where=path, remedy=remedy) from error


def unsourced(board: Board) -> list[str]:
    """Field paths of the figures that `sources` does not explain, sorted; one path covers a whole list."""
    figures = {path for path, value in _leaves(board) if isinstance(value, (int, float))}
    return sorted(figures - set(board.sources))


def describe(board: Board) -> list[tuple[str, str]]:
    """(label, value with unit) rows to print."""
    cpu, alsa = board.cpu, board.alsa
    return [
        ("board", f"{board.name}, {board.title}"),
        ("CPU", f"{cpu.n_cores} x {cpu.core} ({cpu.isa}), {cpu.clock_mhz:,} MHz"),
        ("CPU features", " ".join(cpu.features) or "none assumed"),
        ("L2 cache", "unknown" if cpu.l2_bytes is None else _binary(cpu.l2_bytes)),
        ("RAM", _binary(board.ram_bytes)),
        *(_describe_os(system) for system in board.os),
        ("engine", f"{board.preferred_engine}, {board.n_threads} thread{'s' * (board.n_threads > 1)}"),
        ("capture", alsa.capture),
        ("playback", alsa.playback),
        ("rate", f"{alsa.rate_hz:,} Hz (hardware: {alsa.native_rate_hz:,} Hz)"),
        ("period", f"{alsa.period_samples} samples, {alsa.period_ms:g} ms"),
        ("buffer", f"{alsa.n_periods} periods, {alsa.buffer_ms:g} ms"),
        *_describe_budget(board.budget),
    ]


def _describe_os(system: Os) -> tuple[str, str]:
    extras = ", ".join(system.extras)
    return f"OS {system.release}", f"Python {system.python}, {system.word_bits}-bit, extras: {extras}"


def _describe_budget(budget: Budget) -> list[tuple[str, str]]:
    return [
        ("parameters, at most", f"{budget.n_parameters:,}"),
        ("compute, at most", f"{budget.mmacs_per_s:g} MMAC/s"),
        ("flash, at most", _binary(budget.model_bytes)),
        ("RAM, at most", _binary(budget.ram_bytes)),
        ("real-time factor, at most", f"{budget.rtf:g}"),
    ]


def _binary(n_bytes: int) -> str:
    """1536 -> '1.5 KiB'."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n_bytes >= 1 << power:
            return f"{n_bytes / (1 << power):.4g} {unit}"
    return f"{n_bytes} bytes"


def _parse(name: str, data: bytes, where: object) -> Board:
    try:
        fields = bounded.toml(data)
    except (msgspec.DecodeError, ValueError) as error:  # the latter for a number of thousands of digits
        what = "not a board: the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not valid TOML"
        raise Failure(f"{what}: {error}", where=where, remedy=_REMEDY) from error
    if "name" in fields:
        raise Failure("name: a board is named by its file, remove this field", where=where, remedy=_REMEDY)
    try:
        return msgspec.convert({**fields, "name": name}, Board)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Failure(_field_first(str(error)), where=where, remedy=_REMEDY) from error


def _field_first(message: str) -> str:
    """Turns "Expected `int` - at `$.cpu.n_cores`" into "cpu.n_cores: Expected `int`"."""
    sentence, _, place = message.rpartition(" - at `$.")
    return f"{place.rstrip('`')}: {sentence}" if sentence else message


def _unknown(name: str) -> Failure:
    known = names()
    guess = did_you_mean(name, known, likeness=0.5)  # raspberrypi3: rpi3
    remedy = f"{guess} choose one of: {', '.join(known)}, or give a path that ends in {_SUFFIX}"
    return Failure(f"unknown board {name!r}", remedy=remedy)


def _leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """(field path, value) of every leaf but name and sources; the items of a list share the list's path."""
    if isinstance(node, msgspec.Struct):
        for field in node.__struct_fields__:
            if not (isinstance(node, Board) and field in ("name", "sources")):
                yield from _leaves(getattr(node, field), f"{path}.{field}" if path else field)
    elif isinstance(node, tuple):
        for item in node:
            yield from _leaves(item, path)
    else:
        yield path, node


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


def _positive(record: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        value = getattr(record, field)
        _require(0 < value < math.inf, f"{field} must be positive and finite, got {value}")


def _named(record: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        _require(bool(getattr(record, field).strip()), f"{field} must not be empty")
