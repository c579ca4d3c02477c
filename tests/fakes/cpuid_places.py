"""Where an x86-64 program or library has CPUID, an address a line: `python cpuid_places.py FILE`.

Its two bytes also lie within other instructions. Wherever a decoder starts, it is in step with the code after a few
instructions: a place is one where most of several starts before it come upon CPUID. `objdump` decodes these few bytes;
for all of a runtime it takes half a minute.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CPUID = b"\x0f\xa2"
STARTS = (97, 89, 83, 79, 73, 67, 61)  # bytes before it
MOST = 4  # of them
PADDING = 16 * b"\x90"  # no instruction reaches over it
DECODE = ("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn")


def places(data: bytes) -> list[int]:
    """Virtual addresses."""
    found = list(candidates(data))
    windows, met = bytearray(), []
    for _, at, least in found:
        for start in STARTS:
            windows += data[max(least, at - start) : at]
            met.append(len(windows))
            windows += CPUID + PADDING
    decoded = decoded_at(bytes(windows)) if windows else set()
    n = len(STARTS)
    return [address for k, (address, *_) in enumerate(found) if len(decoded & set(met[n * k : n * (k + 1)])) >= MOST]


def candidates(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(address, place in the file, where its section begins there) of the two bytes in sections of code."""
    magic, first, size, n = struct.unpack_from("<4s36xQ10xHH", data)  # e_shoff, e_shentsize, e_shnum
    if magic != b"\x7fELF":
        raise SystemExit("no ELF file")
    for k in range(n):
        kind, flags, address, offset, n_bytes = struct.unpack_from("<4xIQQQQ", data, first + k * size)
        if kind != 1 or not flags & 4:  # SHT_PROGBITS, SHF_EXECINSTR
            continue
        at = data.find(CPUID, offset, offset + n_bytes)
        while at >= 0:
            yield address + at - offset, at, offset
            at = data.find(CPUID, at + 1, offset + n_bytes)


def decoded_at(code: bytes) -> set[int]:
    """Where `objdump` comes upon CPUID."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        listing = subprocess.run([*DECODE, file.name], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {int(at, 16) for at in re.findall(r"^ *([0-9a-f]+):\tcpuid *$", listing, re.MULTILINE)}


if __name__ == "__main__":
    for place in places(Path(sys.argv[1]).read_bytes()):
        print(f"{place:x}")
