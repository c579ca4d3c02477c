"""What may die runs in a process of its own: a wheel for another processor takes nothing with it, and is named.

    engine_apart("onnx", "edge_runtime.engines.golden:streamed", "build/rpi4", "onnx", "int8")

calls that function of strings in a new interpreter with this one's sys.path, and returns the bytes it returns. What
libraries print there is no answer; of a traceback the last line is told.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from edge_runtime.engines.choice import ENGINES
from edge_runtime.errors import Failure

LIMIT_S: Final = 900.0  # longer than any bench, emulated: who takes more hangs
_CHILD: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from edge_runtime.engines.apart import answer
answer(*sys.argv[2:])
"""
_DEATHS: Final = {
    signal.SIGILL: "illegal instruction on this processor",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "arithmetic trap",
    signal.SIGABRT: "it gave up",
    signal.SIGKILL: "killed, perhaps for want of memory",
}


class Died(Failure):
    """The process ended without an answer."""


def apart(function: str, *arguments: str) -> bytes:
    """What "module:function" returns. Died: its process ended before; Failure: the function raised it."""
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), function, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Died(f"no answer within {LIMIT_S:.0f} s") from None
    if done.stdout[:1] == b"+":  # whatever became of the process afterwards
        return done.stdout[1:]
    if done.stdout[:1] == b"-":
        raise Failure(done.stdout[1:].decode())
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode >= 0:
        raise Died(said[-1] if said else f"exit status {done.returncode} without a word")
    raise Died(death(-done.returncode, said))


def engine_apart(engine: str, function: str, *arguments: str) -> bytes:
    """As `apart`, for what loads or runs an engine. Died names the package that died, and what to do."""
    try:
        return apart(function, *arguments)
    except Died as death:
        raise Died(f"{_package(engine)} died: {death.what}", remedy=another(engine)) from None


def another(engine: str) -> str:
    """The remedy for an engine that dies."""
    others = ", ".join(name for name in ENGINES if name != engine)
    return f"take another engine ({others}), or install another version of it"


def answer(function: str, *arguments: str) -> None:
    """In the process of its own: call, and write the answer where nothing else is written."""
    to = os.dup(1)
    os.dup2(2, 1)
    module, _, name = function.partition(":")
    try:
        reply = b"+" + getattr(import_module(module), name)(*arguments)
    except Failure as failure:
        reply = b"-" + str(failure).encode()
    with open(to, "wb") as out:
        out.write(reply)


def death(number: int, said: Sequence[str] = ()) -> str:
    """What a process that a signal ended died of, with the last line that it said."""
    try:
        known = signal.Signals(number)
        words = f"{_DEATHS.get(known, known.name)} (signal {number})"
    except ValueError:
        words = f"signal {number}"
    return f"{words}: {said[-1]}" if said else words


def _package(engine: str) -> str:
    """The package that runs the engine, and its version as installed; nothing of it is imported."""
    if ENGINES[engine].extra is None:
        return f"the {engine} engine"
    return version(next((name for name in ENGINES[engine].packages if find_spec(name)), ENGINES[engine].packages[0]))


def version(module: str) -> str:
    """Name and version of the package that a module comes from, as installed; the name alone where nothing tells."""
    from importlib import metadata

    try:
        return f"{module} {metadata.version(module.replace('_', '-'))}"
    except metadata.PackageNotFoundError:
        return module
