"""Imports run one way: boards, edge_runtime <- calibration <- quant; and `--help` pays for none of the heavy ones."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

OURS = ("boards", "edge_runtime", "calibration", "quant")
HEAVY = {"torch", "onnx", "onnxruntime", "tensorflow", "ai_edge_litert", "tflite_runtime"}
HELP_LIMIT_S = 0.5

# folder -> which of our own modules it may import (a folder, or one module of it)
ARROWS = {
    "boards": {"boards", "edge_runtime.errors"},
    "edge_runtime": {"edge_runtime"},
    "calibration": {"calibration", "boards", "edge_runtime"},
    "quant": set(OURS),
}
# folder -> what it may import from elsewhere; quant may import anything pyproject.toml names
ENGINES = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow"}
OTHERS = {
    "boards": {"msgspec", "tomli"},
    "edge_runtime": {"numpy", "soundfile", "soxr", "msgspec", "tqdm"} | ENGINES,
    "calibration": {"numpy", "soundfile", "soxr", "msgspec"},
}


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, for type checkers too, and by a literal `import_module`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            if node.module in OURS:  # `from quant import cli` imports a module, too
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def may(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("folder", OURS)
def test_imports_run_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path):
            if module.partition(".")[0] in OURS:
                assert may(module, ARROWS[folder]), f"{path.relative_to(ROOT)} imports {module}"
            elif folder in OTHERS and module.partition(".")[0] not in sys.stdlib_module_names:
                assert may(module, OTHERS[folder]), f"{path.relative_to(ROOT)} imports {module}"


def test_the_check_sees_an_arrow_that_runs_back(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from quant import cli\n    import_module('torch.nn')\n")
    assert set(imports(wrong)) == {"quant", "quant.cli", "torch.nn"}
    assert not may("quant.network.gru_weights", ARROWS["calibration"])
    assert not may("edge_runtime.stft", ARROWS["boards"])


HELP = {"quant": "quant.cli", "edge-denoise": "edge_runtime.cli"}


@pytest.mark.parametrize("program", HELP)
def test_help_is_quick(program: str) -> None:
    """Processor time, which a busy machine does not stretch much; the best of five."""
    taken_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run(
            [sys.executable, "-m", HELP[program], "--help"], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert run.stdout.startswith(f"usage: {program} ")
    assert min(taken_s) <= HELP_LIMIT_S


@pytest.mark.parametrize("program", HELP)
def test_help_imports_nothing_heavy(program: str) -> None:
    script = f"import sys; from {HELP[program]} import main; main(['--help']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert not loaded & (HEAVY | {"numpy"})


def test_importing_a_package_imports_nothing_heavy() -> None:
    script = f"import sys, {', '.join(OURS)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in run.stdout.split()} & HEAVY
