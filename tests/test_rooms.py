"""The house keeps its order: imports run one way, between folders, rooms and files; a room's docstring is its map; and
`--help` pays for nothing heavy."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

import edge_runtime

OURS = ("boards", "edge_runtime", "calibration", "quant")
HEAVY = {"torch", "onnx", "onnxruntime", "tensorflow", "ai_edge_litert", "tflite_runtime"}
MOST_HELP = 3.0  # times an interpreter that imports NumPy; measured: 1.2 and 0.7
MOST_MODULES, MOST_LINES, MOST_LINES_A_FUNCTION = 15, 350, 40

# folder -> which of our own modules it may import (a folder, or one module of it)
ARROWS = {
    "boards": {"boards", "edge_runtime.errors", "edge_runtime.bounded"},
    "edge_runtime": {"edge_runtime"},
    "calibration": {"calibration", "boards", "edge_runtime"},
    "quant": set(OURS),
}
# folder -> what it may import from elsewhere; quant may import anything pyproject.toml names
ENGINES = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow"}
OTHERS = {
    "boards": {"msgspec"},
    "edge_runtime": {"numpy", "soundfile", "soxr", "msgspec", "tqdm", "bottle", "segno"} | ENGINES,
    "calibration": {"numpy", "soundfile", "soxr", "msgspec"},
}
# package -> its rooms, a folder or a file each: one may import itself and those before it; of rooms beside each other,
# a comma between them, neither imports the other
ROOMS = {
    "edge_runtime": (
        "errors", "quoting", "extras", "quiet", "hashing", "folders", "whole_file", "whole_folder", "command",
        "machine", "bounded", "stft", "builtin", "manifest", "native", "engines", "denoiser", "band", "bench",
        "files", "alsa", "live", "panel", "doctor", "install", "cli",
    ),
    "quant": (
        "artifact", "network", "int8", "inputs", "ptq", "training", "emit", "audit", "quality", "search", "report",
        "build", "deploy", "cli",
    ),
    "quant.emit": ("emitted", "onnx,tflite,native"),
}  # fmt: skip
# file -> what it names and imports on first use only: the one exception to the order
FACES = {"edge_runtime": {"edge_runtime.errors", "edge_runtime.manifest", "edge_runtime.denoiser"}}


def module_of(path: Path) -> str:
    """edge_runtime/live/loop.py -> edge_runtime.live.loop; a folder's face is the folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def files() -> dict[str, Path]:
    """Module -> file, of all four folders."""
    return {module_of(path): path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, for type checkers too, and by a literal `import_module`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (_imported(str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _imported(module: str, name: str) -> str:
    """What `from module import name` loads: a module of ours, the home of a name of the face, or the module itself."""
    if module == "edge_runtime" and name in edge_runtime.__all__:
        return edge_runtime._HOMES[name]
    return f"{module}.{name}" if f"{module}.{name}" in files() else module


def ours(module: str) -> Iterator[str]:
    """The files of ours that a module imports, itself left out."""
    yield from (name for name in imports(files()[module]) if name in files() and name != module)


def may(module: str, allowed: Iterable[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def floor(package: str, module: str) -> tuple[int, str] | None:
    """How many rooms lie before a module's, and that room; None of the package's own face and what is elsewhere."""
    name = module.removeprefix(f"{package}.").partition(".")[0]
    if module == package or not module.startswith(f"{package}."):
        return None
    for k, rooms in enumerate(ROOMS[package]):
        if name in rooms.split(","):
            return k, name
    raise AssertionError(f"{module} is in no room that test_rooms names")


def runs_back(package: str, module: str, imported: str) -> bool:
    """Whether an import goes to a room that is not before the module's own."""
    here, there = floor(package, module), floor(package, imported)
    if here is None or there is None:
        return False
    return there[1] != here[1] and there[0] >= here[0]


# --- which way imports run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", OURS)
def test_folders_import_one_way(folder: str) -> None:
    for module, path in files().items():
        if not may(module, {folder}):
            continue
        for imported in imports(path):
            if imported.partition(".")[0] in OURS:
                assert may(imported, ARROWS[folder]), f"{module} imports {imported}"
            elif folder in OTHERS and imported.partition(".")[0] not in sys.stdlib_module_names:
                assert may(imported, OTHERS[folder]), f"{module} imports {imported}"


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_those_before_it(package: str) -> None:
    back = [
        f"{module} imports {imported}"
        for module in files()
        for imported in ours(module)
        if imported not in FACES.get(module, ()) and runs_back(package, module, imported)
    ]
    assert back == []


def test_every_module_is_in_a_room() -> None:
    for package in ROOMS:
        assert all(floor(package, module) for module in files() if module.startswith(f"{package}."))


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: {name for name in ours(module) if name not in FACES.get(module, ())} for module in files()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_check_sees_an_arrow_that_runs_back(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    at_the_top = "from edge_runtime import Failure, __version__\n"
    wrong.write_text(f"{at_the_top}def f():\n    from quant import cli\n    import_module('torch.nn')\n")
    assert set(imports(wrong)) == {"edge_runtime.errors", "edge_runtime", "quant.cli", "torch.nn"}
    assert not may("quant.network.gru_weights", ARROWS["calibration"])
    assert not may("edge_runtime.stft", ARROWS["boards"])
    assert runs_back("quant", "quant.network.graph", "quant.int8.plan")
    assert not runs_back("quant", "quant.int8.plan", "quant.network.graph")
    assert runs_back("quant.emit", "quant.emit.native.gru", "quant.emit.onnx.file")
    assert not runs_back("quant.emit", "quant.emit.native.gru", "quant.emit.native.parts")
    with pytest.raises(AssertionError, match="in no room"):
        floor("quant", "quant.helpers")


# --- rooms ----------------------------------------------------------------------------------------------------------


FOLDERS = sorted(path.parent for path in files().values() if path.name == "__init__.py")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_docstring_of_a_room_names_exactly_its_modules(folder: Path) -> None:
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    named = re.findall(r"^ *(\w+) {2,}\S", said, re.MULTILINE)
    assert sorted(named) == sorted(modules | rooms)


def test_a_room_can_be_seen_at_a_glance() -> None:
    n_modules = {room: len({*room.glob("*.py")} - {room / "__init__.py", room / "__main__.py"}) for room in FOLDERS}
    full = {str(room.relative_to(ROOT)): n for room, n in n_modules.items() if n > MOST_MODULES}
    assert not full


def test_a_module_can_be_read_in_one_sitting() -> None:
    lengths = {module: len(path.read_text("utf-8").splitlines()) for module, path in files().items()}
    assert {module: n for module, n in lengths.items() if n > MOST_LINES} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file, nested ones and methods too, and its lines with signature and docstring."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_a_function_can_be_read_without_scrolling() -> None:
    lengths = dict(found for path in files().values() for found in functions(path))
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_A_FUNCTION} == {}


# --- starting -------------------------------------------------------------------------------------------------------


HELP = {"quant": "quant.cli", "edge-denoise": "edge_runtime.cli"}
# what is typed -> what it may not import
LIGHT = {
    ("quant.cli", "--help"): HEAVY | {"numpy"},
    ("quant.cli", "budget", "--help"): HEAVY | {"numpy"},
    ("quant.cli", "report", "--help"): HEAVY | {"numpy"},
    ("quant.cli", "report", "--schema"): HEAVY,
    ("edge_runtime.cli", "--help"): HEAVY | {"numpy"},
    ("edge_runtime.cli", "live", "--help"): HEAVY | {"numpy"},
}


def cpu_s(*argv: str, n_runs: int = 5) -> float:
    """Processor time of the fastest of a few runs, which a busy machine does not stretch much."""
    taken_s = []
    for _ in range(n_runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *argv], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken_s)


@pytest.mark.parametrize("program", HELP)
def test_help_is_quick(program: str) -> None:
    """Against what any program with NumPy takes: no processor is too slow for that."""
    assert cpu_s("-m", HELP[program], "--help") <= MOST_HELP * cpu_s("-c", "import numpy")


@pytest.mark.parametrize("typed", LIGHT, ids=" ".join)
def test_a_quick_command_imports_nothing_heavy(typed: tuple[str, ...]) -> None:
    program, *argv = typed
    script = f"import sys; from {program} import main; main({argv}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert not loaded & LIGHT[typed]


def test_importing_a_package_imports_nothing_heavy() -> None:
    script = f"import sys, {', '.join(OURS)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in run.stdout.split()} & HEAVY
