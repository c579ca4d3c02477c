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
import subprocess
import sys


def main(folder: str, *command: str) -> int:
    """The compiler's exit status."""
    if "-c" not in command or "-o" not in command:
        return subprocess.call(command)
    at = command.index("-o")
    out, options = command[at + 1], command[:at] + command[at + 2 :]
    preprocessing = [option for option in options if option != "-c"]
    done = subprocess.run([*preprocessing, "-E", "-P"], stdout=subprocess.PIPE)
    if done.returncode != 0:
        return done.returncode
    source = options[options.index("-c") + 1]
    said = [option for option in options if option != source and not option.startswith(("-I", "-D"))]
    name = hashlib.sha256(b"\0".join([*(word.encode() for word in said), done.stdout])).hexdigest()
    os.makedirs(folder, exist_ok=True)
    kept = os.path.join(folder, f"{name}.o")
    with open(f"{kept}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(kept):
            status = subprocess.call([*options, "-o", f"{kept}.new"])
            if status != 0:
                return status
            os.replace(f"{kept}.new", kept)
    if os.path.lexists(out):
        os.unlink(out)
    os.link(kept, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
