"""The second half of `make fuzz SECONDS=600`: signed bundles and reports, changed here and there.

    python tests/fuzzing/files.py SECONDS [--random N]

Half of the time each. Prints how many were accepted and refused. Exit status 1 if something was found: its traceback
is printed, with the number that `--random` begins with and how many went before it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
import fuzz_files
from toy_build import toy

from edge_runtime.quiet import silent
from quant.build import stages


def main() -> int:
    """Build one report to start from, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, help="how long to try files, beside a quarter of a minute to build one")
    parser.add_argument("--random", type=int, default=int(time.time()), help="where chance starts (default: time)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of doubled names
    with tempfile.TemporaryDirectory() as scratch:
        built = stages.build(toy("rpi4", Path(scratch) / "rpi4"), silent).folder
        good = json.loads((built / "report.json").read_text())
        for kind, one in (("bundles", fuzz_files.a_bundle), ("reports", partial(fuzz_files.a_report, good=good))):
            folder = Path(scratch) / kind
            folder.mkdir()
            found, end = Counter(), time.monotonic() + args.seconds / 2
            for n in count():
                if time.monotonic() > end:
                    break
                try:
                    found[one(random.Random(f"{args.random} {n}"), folder)] += 1
                except Exception:
                    print(f"found: {kind}, random {args.random}, after {n}", flush=True)
                    raise
            print(f"random {args.random}: {found.total()} {kind}, {found['accepted']} accepted", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
