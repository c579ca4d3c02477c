"""`make fuzz SECONDS=600`: programs for the native engine, changed field by field to the limits of its checker.

    python tests/fuzzing/fuzz.py SECONDS [--random N]

Compiles the engine and tests/edge_runtime/native/fuzz.c under AddressSanitizer and UndefinedBehaviorSanitizer, starts
from small networks and from programs that once left their memory, and prints how many programs were tried and
accepted, and how many ran through each kernel set. Exit status 1 if something was found: the program is then in
fuzz-found.native, and `fuzz 0 0 OUT fuzz-found.native` (the compiled program) runs it again. One core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from c_programs import FUZZED, linked_fuzzer, sanitized_engine, written
from fuzz_seeds import networks
from native_program import regressions

FOUND = "fuzz-found.native"


def main() -> int:
    """Compile, write the seeds, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, help="how long to try programs, beside half a minute to compile")
    parser.add_argument("--random", type=int, default=int(time.time()), help="where chance starts (default: time)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fuzz = linked_fuzzer(folder / "fuzz", sanitized_engine(folder, flags=FUZZED), FUZZED)
        seeds = written(folder, (*networks(), *regressions()))
        print(f"random {args.random}, {len(seeds)} programs to start from", flush=True)
        command = [fuzz, str(args.seconds), str(args.random), FOUND, *seeds]
        return subprocess.run(command, env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
