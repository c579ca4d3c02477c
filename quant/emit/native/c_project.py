"""A folder of C for a firmware project: the native engine's sources, weights as arrays, vectors and a self-test.

What is fixed lies in `firmware/` beside this file and in `edge_runtime/native`; here the numbers become C.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from importlib import resources
from string import Template

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engines import native
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import HOP_SAMPLES, Float32Array
from quant.emit.emitted import Emitted
from quant.emit.native.file import HEADER, KINDS, OP

N_FRAMES = 16  # beyond the longest history of the network, 10 frames
N_HOPS = 62  # 1 s
FULL_SCALE = 32768.0  # of 16-bit samples
# Of a state block beside arena and states: ed_state in ed_engine.c up to MEMORY_AT, and ed_audio.
STATE_HEAD_BYTES, AUDIO_BYTES = 64, 4 * (4 + 512 + 256)
MODELS = {"int8": "model.native", "fp32": "model.fp32.native"}
TABLES = "ed_tables.c"
ONLY_WINDOW = b"#define ED_ONLY_WINDOW %d /* of these weights; without it: every network's */\n"
PROGRAM, ONLY_KINDS = "ed_program.h", "ed_only_kinds.h"
EVERY_STREAM = ("analysis", "synthesis")  # are kernels that no operation names
TOLD = ("README.md", "library.properties", "library.json")  # say what they are made from
WORDS_A_LINE, SAMPLES_A_LINE = 10, 16

KINDS_HEADER = Template("""\
/* The kinds of operations that the weights of this folder use, 8-bit or (-DED_FP32) float: no kernel of another one is
 * compiled, and weights that have one are refused as what cannot be run. Without ED_ONLY_KINDS every kernel is. */
#define ED_ONLY_KINDS
#ifdef ED_FP32
${fp32}
#else
${int8}
#endif
""")
WEIGHTS_HEADER = Template("""\
/* The weights of `make PRECISION=...` (-DED_FP32: the float ones) and the size of a state block for them. */
#ifndef ED_WEIGHTS_H
#define ED_WEIGHTS_H

#include <stdint.h>

extern const uint32_t ed_weights_int8[$int8_words];
extern const uint32_t ed_weights_fp32[$fp32_words];

#ifdef ED_FP32
#define ED_WEIGHTS ed_weights_fp32
#define ED_WEIGHT_BYTES ${fp32_weights}u
#define ED_STATE_BYTES ${fp32_state}u
#else
#define ED_WEIGHTS ed_weights_int8
#define ED_WEIGHT_BYTES ${int8_weights}u
#define ED_STATE_BYTES ${int8_state}u
#endif

#endif
""")
WEIGHTS = Template("""\
/* ${precision} weights: model file, word by word. */
#include "ed_weights.h"

/* ed_init wants them at a multiple of 16 bytes. */
#if defined(__GNUC__) || defined(__clang__) || defined(__ARMCC_VERSION)
#define ALIGNED __attribute__((aligned(16)))
#elif defined(_MSC_VER)
#define ALIGNED __declspec(align(16))
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ALIGNED _Alignas(16)
#else
#error "say here how this compiler aligns an array to 16 bytes"
#endif

ALIGNED const uint32_t ed_weights_${precision}[${n}] = {
${words}
};
""")
VECTORS_HEADER = Template("""\
/* What goes in and what must come out, from the start of a stream. Floats are given by their bits. */
#ifndef TEST_VECTORS_H
#define TEST_VECTORS_H

#include <stdint.h>

#define VECTOR_FRAMES $n_frames
#define VECTOR_HOPS $n_hops
#ifdef ED_FP32
#define VECTOR_EXACT 0
#else
#define VECTOR_EXACT 1
#endif

extern const uint32_t vector_spectrum[VECTOR_FRAMES * 257 * 2]; /* (frame, bin, real or imaginary) */
extern const uint32_t vector_enhanced[VECTOR_FRAMES * 257 * 2];
extern const int16_t vector_noisy[VECTOR_HOPS * 256];
extern const uint32_t vector_crc32[VECTOR_HOPS];       /* int8: of the 256 floats of each hop */
extern const int16_t vector_clean[VECTOR_HOPS * 256];  /* fp32: rounded to 16 bits */

#endif
""")
VECTORS = Template("""\
#if defined(ED_SELF_TEST) || defined(ED_EXAMPLE)
#include "test_vectors.h"

const uint32_t vector_spectrum[VECTOR_FRAMES * 257 * 2] = {
${spectrum}
};
const uint32_t vector_enhanced[VECTOR_FRAMES * 257 * 2] = {
${enhanced}
};
const int16_t vector_noisy[VECTOR_HOPS * 256] = {
${noisy}
};
const uint32_t vector_crc32[VECTOR_HOPS] = {
${crc32}
};
const int16_t vector_clean[VECTOR_HOPS * 256] = {
${clean}
};
#else
typedef int test_vectors_are_not_asked_for;
#endif
""")


def files(
    models: Mapping[str, Emitted], golden: Mapping[str, Float32Array], noisy: Float32Array, names: Mapping[str, str]
) -> dict[str, bytes]:
    """The C files of a folder by name. `noisy`: (samples,) for the hops; `names`: version, checkpoint and recipe.

    Failure: the native engine is not compiled here, which makes the vectors of whole hops.
    """
    n_hops, n_frames = min(N_HOPS, len(noisy) // HOP_SAMPLES), min(N_FRAMES, len(golden["spectrum"]))
    hops = int16(noisy[: n_hops * HOP_SAMPLES])
    made: dict[str, bytes] = {}
    numbers: dict[str, object] = {"n_frames": n_frames, "n_hops": n_hops, **names}
    for precision, model in MODELS.items():
        data = models[model].data
        clean = stream(data, model, precision, hops)
        spectrum, enhanced = golden["spectrum"][:n_frames], golden[f"enhanced_{precision}"][:n_frames]
        made[f"ed_weights_{precision}.c"] = weights(data, precision)
        made[f"test_vectors_{precision}.c"] = vectors(spectrum, enhanced, hops, clean)
        numbers |= {f"{precision}_weights": len(data), f"{precision}_words": len(data) // 4}
        numbers[f"{precision}_state"] = state_bytes(data)
    made["ed_weights.h"] = WEIGHTS_HEADER.substitute(numbers).encode()
    made["test_vectors.h"] = VECTORS_HEADER.substitute(numbers).encode()
    made |= fixed()
    made[TABLES] = ONLY_WINDOW % header_of(models[MODELS["int8"]].data)["window"] + made[TABLES]
    made[ONLY_KINDS] = KINDS_HEADER.substitute({p: uses(models[m].data) for p, m in MODELS.items()}).encode()
    made[PROGRAM] = f'#include "{ONLY_KINDS}"\n'.encode() + made[PROGRAM]
    for name in TOLD:
        made[name] = Template(made[name].decode()).substitute(numbers).encode()
    return made


def fixed() -> dict[str, bytes]:
    """Sources of the engine, what builds them (make, CMake, Arduino, PlatformIO), self-test, example, licence."""
    native_folder = resources.files("edge_runtime") / "native"
    folders = (native_folder / "engine", native_folder / "kernels")
    sources = [f for folder in folders for f in folder.iterdir() if f.name.endswith((".c", ".h", ".inc"))]
    firmware = (resources.files(__package__) / "firmware").iterdir()
    return {f.name: f.read_bytes() for f in (*sources, *firmware)}


def uses(data: bytes) -> str:
    """ED_USES_kind of every kind, a line each: 1 of those that the operations of a model file and every stream have."""
    header = header_of(data)
    ops = np.frombuffer(data, OP, int(header["n_ops"]), int(header["ops"]))
    used = {*EVERY_STREAM, *(KINDS[kind] for kind in np.unique(ops["kind"]))}
    return "\n".join(f"#define ED_USES_{kind.upper()} {int(kind in used)}" for kind in KINDS)


def state_bytes(data: bytes) -> int:
    """What `ed_size` says of these weights."""
    header = header_of(data)
    return STATE_HEAD_BYTES + int(header["n_arena_bytes"]) + int(header["n_state_bytes"]) + AUDIO_BYTES


def not_compiled() -> Failure:
    """Why a build stops where the engine is missing."""
    remedy = "install a C compiler (Debian: apt install gcc) and edge-denoise again"
    return Failure("the native engine is not compiled here", remedy=remedy)


def header_of(data: bytes) -> np.void:
    """ed_header of a model file."""
    (header,) = np.frombuffer(data, HEADER, 1)
    found: np.void = header
    return found


def stream(data: bytes, model: str, precision: str, hops: NDArray[np.int16]) -> Float32Array:
    """(n_hops, 256): 16-bit samples through the portable kernels, from the start of a stream."""
    entry = ModelEntry(file=model, states=(), golden_snr_floor_db=0)
    try:
        engine = native.open_model(data, entry, precision, 1, isa="portable")
    except ImportError as error:
        raise not_compiled() from error
    noisy = hops.reshape(-1, HOP_SAMPLES).astype(np.float32) / np.float32(FULL_SCALE)
    clean = np.empty_like(noisy)
    for hop, hop_out in zip(noisy, clean, strict=True):
        engine.process(hop, hop_out)
    return clean


def weights(data: bytes, precision: str) -> bytes:
    """The model file as a C array."""
    return WEIGHTS.substitute(precision=precision, n=len(data) // 4, words=words(np.frombuffer(data, "<u4"))).encode()


def vectors(spectrum: Float32Array, enhanced: Float32Array, noisy: NDArray[np.int16], clean: Float32Array) -> bytes:
    """test_vectors_*.c; zeros of either sign are equal, so the sign of a zero is dropped."""
    signless = clean + np.float32(0)
    crc32 = np.array([zlib.crc32(hop.astype("<f4").tobytes()) for hop in signless], "<u4")
    return VECTORS.substitute(
        spectrum=words(bits(spectrum)),
        enhanced=words(bits(enhanced)),
        noisy=lines(map(str, noisy), SAMPLES_A_LINE),
        crc32=words(crc32),
        clean=lines(map(str, int16(clean.reshape(-1))), SAMPLES_A_LINE),
    ).encode()


def int16(samples: Float32Array) -> NDArray[np.int16]:
    """Rounded and limited."""
    return np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def bits(values: Float32Array) -> NDArray[np.uint32]:
    """Of float32 numbers."""
    return np.ascontiguousarray(values, "<f4").view("<u4").reshape(-1)


def words(values: NDArray[np.uint32]) -> str:
    """As hexadecimal C constants."""
    return lines((f"0x{value:08x}" for value in values.tolist()), WORDS_A_LINE)


def lines(constants: Iterable[str], n: int) -> str:
    """`n` constants a line."""
    listed = list(constants)
    return ",\n".join(",".join(listed[i : i + n]) for i in range(0, len(listed), n))
