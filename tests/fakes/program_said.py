"""Programs in processes of their own, and what they said but for signs of life: how many of these there are is a
matter of the machine, not of the program."""

from __future__ import annotations

import re
import subprocess
from typing import Any

SIGN = r"[\w-]+: still at work\r?\n"


class Program(subprocess.Popen[Any]):
    """Without signs of life in its standard error."""

    def communicate(self, *args: Any, **options: Any) -> tuple[Any, Any]:
        out, err = super().communicate(*args, **options)
        if isinstance(err, bytes):
            return out, re.sub(SIGN.encode(), b"", err)
        return out, err and re.sub(SIGN, "", err)


def run(command: list[str], data: Any = None, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Its end; what it is given by `data`."""
    usual = {"stdin": subprocess.DEVNULL if data is None else -1, "stdout": -1, "stderr": -1}
    with Program(command, **(usual | options)) as running:
        try:
            out, err = running.communicate(data, timeout=timeout)
        except BaseException:
            running.kill()
            raise
    return subprocess.CompletedProcess(command, running.returncode, out, err)
