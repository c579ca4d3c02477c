"""What a shared library's file says of how it is loaded, as binutils' readelf reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Facts(NamedTuple):
    """`n_writable_bytes`: of sections that stay writable; `n_sealed_bytes`: of those that are so until it is loaded;
    `wx`: whether memory is writable and executable at once, the stack among it."""

    binds_at_load: bool
    n_sealed_bytes: int
    n_writable_bytes: int
    wx: bool
    imports: frozenset[str]


def facts_of(library: Path) -> Facts:
    command = ["readelf", "-dlSW", "--dyn-syms", library]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    segments = re.findall(r"^\s+([A-Z_]+)\s+0x\w+ 0x(\w+) 0x\w+ 0x\w+ 0x(\w+) ([RWE ]{3})", said, re.M)
    sealed = [(int(at, 16), int(at, 16) + int(size, 16)) for kind, at, size, _ in segments if kind == "GNU_RELRO"]
    sections = re.findall(r"\] \S+\s+\w+\s+(\w+) \w+ (\w+) \w+\s+WA", said)
    inside = {True: 0, False: 0}
    for at, size in ((int(at, 16), int(size, 16)) for at, size in sections):
        inside[any(start <= at and at + size <= end for start, end in sealed)] += size
    return Facts(
        binds_at_load=re.search(r"\(FLAGS_1\).*\bNOW\b", said) is not None,
        n_sealed_bytes=inside[True],
        n_writable_bytes=inside[False],
        wx=any("W" in flags and "E" in flags for *_, flags in segments),
        imports=frozenset(re.findall(r" UND (\w+)", said)),
    )
