"""A C compiler that makes each object once a session: `python compiled_once.py FOLDER COMPILER ARGUMENTS...`.

An object is kept in FOLDER under the hash of the compiler, its options and the preprocessed source, which has the
macros and the included files in it, and linked from there wherever the same is asked for again, by this process or
another: one compiles, the others wait. Whatever is not `-c SOURCE -o OBJECT` goes to the compiler as it is. Sources
that differ in comments or in the folder they lie in are the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Sequence


def main(folder: str, *command: str) -> int:
    """The compiler's exit status."""
    if "-c" not in command or "-o" not in command:
        return ended(command)
    command = without_dependencies(command)
    at = command.index("-o")
    out, options = command[at + 1], command[:at] + command[at + 2 :]
    preprocessing = [option for option in options if option != "-c"]
    status, preprocessed = output([*preprocessing, "-E", "-P"])
    if status != 0:
        return status
    source = options[options.index("-c") + 1]
    said = [option for option in options if option != source and not option.startswith(("-I", "-D"))]
    name = hashlib.sha256(b"\0".join([*(word.encode() for word in said), preprocessed])).hexdigest()
    os.makedirs(folder, exist_ok=True)
    kept = os.path.join(folder, f"{name}.o")
    with open(f"{kept}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(kept):
            status = ended([*options, "-o", f"{kept}.new"])
            if status != 0:
                return status
            os.replace(f"{kept}.new", kept)
    if os.path.lexists(out):
        os.unlink(out)
    os.link(kept, out)
    return 0


def without_dependencies(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without what CMake adds to learn which files were included: nothing is compiled again here."""
    kept, words = [], iter(command)
    for word in words:
        if word in ("-MT", "-MF"):
            next(words)
        elif word != "-MD":
            kept.append(word)
    return tuple(kept)


# Without `subprocess`, which takes longer to import than all else here together, hundreds of times a session.
def ended(command: Sequence[str]) -> int:
    """Its exit status."""
    return _status(os.posix_spawnp(command[0], command, os.environ))


def output(command: Sequence[str]) -> tuple[int, bytes]:
    """Its exit status, and what it writes to standard output."""
    read_end, write_end = os.pipe()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)])
    os.close(write_end)
    with os.fdopen(read_end, "rb") as written:
        found = written.read()
    return _status(process), found


def _status(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
